"""What a run stands on, hardware and software: recorded, compared, and asked for by whoever needs a
fact of this machine. Loading it imports no torch.
"""
