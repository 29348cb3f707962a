"""Estimators: the interface of scikit-learn, which is imported on first use."""
