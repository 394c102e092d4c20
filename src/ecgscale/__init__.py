"""ecgscale: the scaling laboratory for ECG foundation models."""
