//! Addresses: what of them may be shown, and where one leads from another.

use ureq::http::Uri;

/// An address without user, password, query and fragment.
pub(crate) fn public_url(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

/// Whether the address names a user or password.
pub(crate) fn has_user(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().is_some_and(|host| host.contains('@'))
}

/// A path with everything escaped that has a meaning in addresses.
pub(crate) fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for b in path.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(b));
            }
            _ => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

/// Whether an address is one of this machine, to which nothing crosses a network.
pub(crate) fn is_loopback(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|uri| names_this_machine(uri.host().unwrap_or_default()))
}

/// Whether a host is this machine.
pub(super) fn names_this_machine(host: &str) -> bool {
    let name = host.trim_matches(['[', ']']);
    name == "localhost"
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Scheme, host and port.
pub(super) fn origin(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return String::new() };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    let default = if scheme == "https" { ":443" } else { ":80" };
    format!("{scheme}://{}", host.strip_suffix(default).unwrap_or(&host))
}

/// Where a redirect from `base` leads.
pub(super) fn joined(base: &str, to: &str) -> String {
    if to.starts_with("http://") || to.starts_with("https://") {
        return to.to_owned();
    }
    let scheme = base.split("://").next().unwrap_or_default();
    if to.starts_with("//") {
        return format!("{scheme}:{to}");
    }
    let after = base.find("://").map_or(0, |i| i + 3);
    let host_end = base[after..].find(['/', '?', '#']).map_or(base.len(), |i| after + i);
    if to.starts_with('/') {
        return format!("{}{to}", &base[..host_end]);
    }
    let path = base[host_end..].split(['?', '#']).next().unwrap_or_default();
    let folder = path.rfind('/').map_or("/", |i| &path[..=i]);
    format!("{}{folder}{to}", &base[..host_end])
}
