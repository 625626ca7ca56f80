"""Training: mixing, packing, the loop, and the stages pretrain, encoders, align and sft."""
