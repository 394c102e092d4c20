"""What the benchmark of arXiv:2605.12241 asks of MIMIC-IV-ECG beside diagnoses and stays: names of columns, in order.

Sources: arXiv:2509.25095, github.com/AI4HealthUOL/ecg-fm-benchmarking; MDS-ED, arXiv:2407.17856.
"""

from __future__ import annotations

DETERIORATION = (
    *("deterioration_severe_hypoxemia", "deterioration_ecmo", "deterioration_vasopressors"),
    *("deterioration_inotropes", "deterioration_mechanical_ventilation", "deterioration_cardiac_arrest"),
)
BIOMETRICS = ("Height (Inches)", "Weight (Lbs)", "BMI (kg/m2)")
ECG_FEATURES = ("RR", "QRS", "QT", "QTc", "P_wave_axis", "QRS_axis", "T_wave_axis")  # ms, degrees
LABORATORY = (
    *("PT", "Albumin", "Anion Gap", "Bicarbonate", "Bilirubin, Total", "Calcium, Total", "Creatinine", "Ferritin"),
    *("Urea Nitrogen", "Hematocrit", "Hemoglobin", "Lymphocytes", "MCHC", "RDW", "Red Blood Cells", "RDW-SD"),
    *("Creatine Kinase (CK)", "NTproBNP"),
)
VITAL_SIGNS = ("dbp", "heartrate", "o2sat", "resprate", "sbp", "temperature")

MEASURED = ("rr_interval", "qrs_onset", "qrs_end", "t_end", "p_axis", "qrs_axis", "t_axis")  # machine_measurements.csv
