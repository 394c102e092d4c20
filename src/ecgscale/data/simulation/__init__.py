"""The simulator's physics and statistics; `datasets/simulated.py` turns them into records.

A chunk of patients is drawn (`latents`) for one of the `worlds`, each heart is rendered as a current dipole
(`dipole`) and seen through electrodes and a recorder (`device`); what no model can know about the labels is in closed
form (`floors`).
"""
