use super::{Form, disk_size_bytes, may, percent_decoded, tags};

#[test]
fn numbered_parameters_match_every_number_and_nothing_else() {
    let net = may("net[n]", Form::Network);
    assert!(net.is_called("net0") && net.is_called("net31"));
    assert!(!net.is_called("net") && !net.is_called("netx") && !net.is_called("net[n]") && !net.is_called("net100"));
}

#[test]
fn each_form_takes_what_fits_and_refuses_what_does_not() {
    let cases: [(Form, &[&str], &[&str]); 13] = [
        (Form::Flag, &["0", "1"], &["true", "", "2"]),
        (Form::Whole(100, 200), &["100", "200"], &["99", "201", "1e2", "x"]),
        (Form::DnsName, &["vps-1", "a.b.c"], &["vps_1", "-a", "a-", "a..b", ""]),
        (
            Form::IpConfig,
            &["ip=192.0.2.5/24,gw=192.0.2.1,ip6=2001:db8::5/64,gw6=2001:db8::1", "ip=dhcp"],
            &["ip=192.0.2.5", "gw=192.0.2.1", "ip=2001:db8::5/64", "ip=dhcp,ip=dhcp", "ipp=dhcp"],
        ),
        (
            Form::SshKeys,
            &["ssh-ed25519%20AAAAC3Nz%20me%40host%0A"],
            &["ssh-ed25519 AAAAC3Nz", "hello%20AAAA", "ssh-rsa%2", "ssh-rsa%20AAAA+b"],
        ),
        (
            Form::Network,
            &["virtio,bridge=vmbr0,firewall=1", "model=virtio,bridge=vmbr0"],
            &["bridge=vmbr0", "virtio,brigde=vmbr0"],
        ),
        (Form::Tags, &["ez;svc-1", "a,b"], &["a b!", "é"]),
        (Form::MemoryMib, &["2048", "current=2048"], &["2G", "8"]),
        (Form::DiskSize, &["20G", "+5G", "1.5T"], &["20GB", "-5G", "G", ""]),
        (Form::AddressList, &["192.0.2.1 2001:db8::1"], &["dns.example"]),
        (Form::Cidr, &["192.0.2.5", "2001:db8::/64"], &["192.0.2.5/33", "x"]),
        (Form::SetName, &["ipfilter-net0"], &["x", "0ab", "a b"]),
        (Form::FirewallPorts, &["22", "80,443", "1000:2000"], &["99999", "1:2:3"]),
    ];
    for (form, good, bad) in cases {
        for value in good {
            assert_eq!(form.check(value), Ok(()), "{form:?} {value}");
        }
        for value in bad {
            assert!(form.check(value).is_err(), "{form:?} {value}");
        }
    }
}

#[test]
fn disk_sizes_are_read_in_bytes() {
    assert_eq!(disk_size_bytes("20G"), Some((20 << 30, false)));
    assert_eq!(disk_size_bytes("+512M"), Some((512 << 20, true)));
    assert_eq!(disk_size_bytes("1.5G"), Some((1536 << 20, false)));
    assert_eq!(disk_size_bytes("99999999999T"), None);
}

#[test]
fn percent_decoding_refuses_what_is_cut_short() {
    assert_eq!(percent_decoded("a%2Fb+c").as_deref(), Some("a/b+c"));
    assert_eq!(percent_decoded("a%2"), None);
    assert_eq!(percent_decoded("%FF"), None);
}

#[test]
fn tags_are_kept_sorted_lower_case_and_once() {
    assert_eq!(tags("Web;ez,web").into_iter().collect::<Vec<_>>(), ["ez", "web"]);
}
