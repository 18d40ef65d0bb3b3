//! Services as nftables rules.
