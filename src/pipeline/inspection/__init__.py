"""What a network is made of, without training or weights: its layers, sizes, fields and costs."""
