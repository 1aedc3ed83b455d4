//! Addresses of hosts, networks and network cards, as PostgreSQL writes them.

use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::scalar::{BadForm, chunk};

/// PostgreSQL's own numbers of the two families.
const IPV4: u8 = 2;
const IPV6: u8 = 3;

/// Appends an `inet`, whose full mask is left out, or a `cidr`, whose mask never is.
pub(crate) fn write_address(field: &[u8], text: &mut Vec<u8>) -> Result<(), BadForm> {
    let ([family, mask, is_network, _length], address) = field.split_first_chunk().ok_or(BadForm)?;
    let full = match *family {
        IPV4 => {
            write!(text, "{}", Ipv4Addr::from(chunk::<4>(address)?)).expect("a vector takes every text");
            32
        }
        IPV6 => {
            write_ipv6(Ipv6Addr::from(chunk::<16>(address)?), text);
            128
        }
        _ => return Err(BadForm),
    };
    if *is_network != 0 || *mask != full {
        write!(text, "/{mask}").expect("a vector takes every text");
    }
    Ok(())
}

/// PostgreSQL writes the last four bytes as IPv4 also where nothing but zeros stands before them.
fn write_ipv6(address: Ipv6Addr, text: &mut Vec<u8>) {
    let segments = address.segments();
    let written = if segments[..6] == [0; 6] && segments[6] != 0 {
        let [.., a, b, c, d] = address.octets();
        write!(text, "::{}", Ipv4Addr::new(a, b, c, d))
    } else {
        write!(text, "{address}")
    };
    written.expect("a vector takes every text");
}

/// Appends the six or eight bytes of a `macaddr` or `macaddr8`.
pub(crate) fn write_hardware(field: &[u8], text: &mut Vec<u8>) -> Result<(), BadForm> {
    if !matches!(field.len(), 6 | 8) {
        return Err(BadForm);
    }
    for (index, byte) in field.iter().enumerate() {
        let colon = if index > 0 { ":" } else { "" };
        write!(text, "{colon}{byte:02x}").expect("a vector takes every text");
    }
    Ok(())
}
