//! A small encoder of nftables messages.
