"""The steps of an LSTM, forward and backward."""
