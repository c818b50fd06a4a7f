//! Finds the process that listens at a local address, from the tables that the kernel shows in
//! `/proc`.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};

/// How often the holder of a socket is looked for, and the pause between.
const LOOKS_MAX: usize = 5;
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// The state of a listening socket in these tables.
const LISTEN: &str = "0A";

/// Returns the process that listens at this address of this machine. It is an error if no process
/// does, if several do, or if this user may not see which.
pub(crate) fn process_at(address: SocketAddr) -> Result<u32> {
    for look in 1..=LOOKS_MAX {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
        let tables = tables.iter().flatten();
        let sockets: Vec<_> = tables.flat_map(|table| listening(table, address)).collect();
        if sockets.is_empty() {
            bail!("nothing listens at {address}");
        }
        let names = sockets.iter().map(|socket| format!("socket:[{}]", socket.inode)).collect();
        let mut holders = holders(&names);
        match (holders.pop(), holders.len()) {
            (Some(one), 0) => return Ok(one),
            (Some(one), _) => {
                let all: Vec<_> = holders.iter().chain([&one]).map(u32::to_string).collect();
                bail!("{} hold the socket at {address}; name one with --server-pid", all.join(", "))
            }
            // The process may have ended, or another may have taken over, during the look-up.
            (None, _) if look < LOOKS_MAX => thread::sleep(LOOK_INTERVAL),
            (None, _) => {
                bail!("{}", unseen(address, &sockets, rustix::process::geteuid().as_raw()))
            }
        }
    }
    bail!("nothing listens at {address}")
}

/// Returns why no process is seen that holds these sockets, although they accept connections.
fn unseen(address: SocketAddr, sockets: &[Socket], user: u32) -> String {
    match user == 0 || sockets.iter().any(|socket| socket.user == user) {
        true => format!(
            "a process listens at {address} that cannot be seen from here: it has just ended, or it \
             runs in another container; try again, or name it with --server-pid"
        ),
        false => format!(
            "another user's process listens at {address}; run this as that user or as root, or name \
             the process with --server-pid"
        ),
    }
}

/// A socket that accepts connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Socket {
    inode: u64,
    /// The user that made it.
    user: u32,
}

/// Returns the sockets that accept connections to this address.
fn listening(table: &str, address: SocketAddr) -> Vec<Socket> {
    let socket = |line: &str| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let (ip, port) = fields.get(1)?.split_once(':')?;
        let is_port = u16::from_str_radix(port, 16).ok()? == address.port();
        let ip = parse_ip(ip)?;
        let is_ip = ip == address.ip() || (ip.is_unspecified() && takes(ip, address));
        let is_listening = *fields.get(3)? == LISTEN;
        let is_wanted = is_port && is_ip && is_listening;
        let (user, inode) = (fields.get(7)?.parse().ok()?, fields.get(9)?.parse().ok()?);
        is_wanted.then_some(Socket { inode, user })
    };
    table.lines().skip(1).filter_map(socket).collect()
}

/// Whether a socket at an unspecified address accepts connections of this family. One of IPv6
/// usually accepts both.
fn takes(unspecified: IpAddr, address: SocketAddr) -> bool {
    unspecified.is_ipv6() || address.is_ipv4()
}

/// Reads an address as the kernel writes it: words of four bytes in the machine's order.
fn parse_ip(hex: &str) -> Option<IpAddr> {
    let words = hex.as_bytes().chunks(8).map(|word| {
        let word = str::from_utf8(word).ok().filter(|word| word.len() == 8)?;
        Some(u32::from_str_radix(word, 16).ok()?.to_ne_bytes())
    });
    let words = words.collect::<Option<Vec<_>>>()?;
    match words[..] {
        [word] => Some(Ipv4Addr::from(word).into()),
        [one, two, three, four] => {
            let bytes: Vec<u8> = [one, two, three, four].concat();
            let ip = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
            Some(ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4))
        }
        _ => None,
    }
}

/// Returns the processes that hold one of these sockets, as far as this user may see them.
fn holders(sockets: &BTreeSet<String>) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let holds = |pid: &u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"));
        descriptors.into_iter().flatten().flatten().any(|entry| {
            let target = fs::read_link(entry.path());
            target.is_ok_and(|target| target.to_str().is_some_and(|name| sockets.contains(name)))
        })
    };
    ids.filter(holds).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::OwnedFd;

    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1BDA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1
   1: 00000000:1BDA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 78 1
   2: 0500007F:1BDA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 79 1
   3: 0100007F:1BDA 0100007F:8001 01 00000000:00000000 00:00000000 00000000     0        0 80 1
   4: 0100007F:1BDB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 81 1
   5: 00000000000000000000000000000000:1BDA 0:0 0A 0:0 00:0 0 0 0 82 1
   6: 00000000000000000000000001000000:1BDA 0:0 0A 0:0 00:0 0 0 0 83 1
";

    #[test]
    #[cfg(target_endian = "little")]
    fn sockets_that_accept_for_the_address_are_found() {
        let found = |address: &str| -> Vec<u64> {
            let found = listening(TABLE, address.parse().unwrap());
            found.iter().map(|socket| socket.inode).collect()
        };
        assert_eq!(found("127.0.0.1:7130"), [77, 78, 82]);
        assert_eq!(found("127.0.0.5:7130"), [78, 79, 82]);
        assert_eq!(found("127.0.0.1:7131"), [81]);
        assert_eq!(found("[::1]:7130"), [82, 83]);
        assert_eq!(found("127.0.0.1:7132"), Vec::<u64>::new());
    }

    #[test]
    fn a_process_that_is_not_seen_is_another_users_only_if_the_socket_is() {
        let address = "127.0.0.1:7130".parse().unwrap();
        let said = |owner, user| unseen(address, &[Socket { inode: 1, user: owner }], user);
        assert!(said(1_000, 1_001).starts_with("another user's process listens at 127.0.0.1:7130"));
        for (owner, user) in [(1_000, 1_000), (1_000, 0), (0, 0)] {
            assert!(said(owner, user).contains("has just ended"), "{owner} {user}");
        }
    }

    #[test]
    fn a_listener_of_this_process_is_found_and_a_closed_one_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(process_at(address).unwrap(), std::process::id());
        let copy = listener.try_clone().unwrap();
        let mut command = std::process::Command::new("sleep");
        let mut child = command.arg("20").stdin(OwnedFd::from(copy)).spawn().unwrap();
        let several = process_at(address).unwrap_err().to_string();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(several.contains("name one with --server-pid"), "{several}");
        assert!(several.contains(&child.id().to_string()), "{several}");
        // The command holds the copy.
        drop((command, listener));
        let gone = process_at(address).unwrap_err().to_string();
        assert_eq!(gone, format!("nothing listens at {address}"));
    }
}
