use super::*;

#[test]
fn sizes_read_as_proxmox_writes_them() {
    assert_eq!(size_kib("10G"), Some(10 << 20));
    assert_eq!(size_kib("2252M"), Some(2252 << 10));
    assert_eq!(size_kib("528K"), Some(528));
    assert_eq!(size_kib("2.2G"), Some(2_306_867));
    assert_eq!(size_kib("1T"), Some(1 << 30));
    assert_eq!(size_kib("2147483648"), Some(2 << 20));
    assert_eq!(size_kib("10X"), None);
    assert_eq!(size_kib(""), None);
}

#[test]
fn a_card_behind_the_firewall_keeps_its_hardware_address() {
    let card = "virtio=BC:24:11:00:00:01,bridge=vmbr0";
    assert_eq!(guarded(card), format!("{card},firewall=1"));
    assert_eq!(guarded("virtio=BC:24:11:00:00:01,firewall=0,bridge=vmbr0"), format!("{card},firewall=1"));
    assert_eq!(guarded(&guarded(card)), guarded(card));
}

#[test]
fn the_first_disk_is_the_one_it_boots_from() {
    let machine = |settings: &[(&str, &str)]| Machine::of("pve1", domain::ids::Vmid(101), settings);
    let drives = [
        ("ide2", "local:vm-101-cloudinit,media=cdrom,size=4M"),
        ("scsi0", "local:vm-101-disk-0,size=2G"),
        ("virtio1", "local:vm-101-disk-1,size=3G"),
    ];
    let with_boot = |boot: &str| {
        let mut settings = drives.to_vec();
        settings.push(("boot", boot));
        first_disk(&machine(&settings)).map(|(slot, _)| slot)
    };
    assert_eq!(with_boot("order=ide2;virtio1;net0").as_deref(), Some("virtio1"));
    assert_eq!(with_boot("order=net0").as_deref(), Some("scsi0"));
    assert_eq!(first_disk(&machine(&drives)), Some(("scsi0".to_owned(), 2 << 20)));
    assert_eq!(first_disk(&machine(&[])), None);
}
