"""From one ECG to a corpus on disk: records, signals, beats, quality, corpora, splits. No torch here."""
