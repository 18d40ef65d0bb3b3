//! Packets: decoders, reassembly, what leaks. Pure.
