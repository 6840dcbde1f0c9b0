//! The names of this process.

use keyward_edge::node;
use std::io::Read as _;

/// Returns the name of the proxy for the admin service: the value of `--service-node` with which Envoy was started, or
/// else the name of the machine. Envoy does not tell its modules the `node.id` of its configuration.
pub fn name() -> Box<str> {
    let arguments = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let id = service_node(&arguments).map(<[u8]>::to_vec);
    let id = id.or_else(|| std::fs::read("/proc/sys/kernel/hostname").ok());
    node::name(id.as_deref().unwrap_or(b"unknown").trim_ascii())
}

/// Finds the value of `--service-node` in a command line whose arguments end in NUL.
fn service_node(arguments: &[u8]) -> Option<&[u8]> {
    let mut arguments = arguments.split(|byte| *byte == 0);
    while let Some(argument) = arguments.next() {
        match argument.strip_prefix(b"--service-node") {
            Some([]) => return arguments.next(),
            Some([b'=', value @ ..]) => return Some(value),
            _ => {}
        }
    }
    None
}

/// Returns random bits, for names that nobody else must know.
pub fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    if read.is_err() {
        // The keys of Rust's hash maps are random too.
        use std::hash::{BuildHasher as _, RandomState};
        return RandomState::new().hash_one(crate::host::monotonic_ns());
    }
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_node_is_found_in_both_spellings() {
        assert_eq!(service_node(b"envoy\0--service-node\0edge-1\0-c\0x\0"), Some(&b"edge-1"[..]));
        assert_eq!(service_node(b"envoy\0--service-node=edge-2\0"), Some(&b"edge-2"[..]));
        assert_eq!(service_node(b"envoy\0--service-node-x\0edge-1\0"), None);
        assert_eq!(service_node(b"envoy\0--service-node"), None);
        assert!(!name().is_empty());
    }
}
