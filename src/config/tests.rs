use super::*;

fn complete() -> BTreeMap<String, String> {
    [
        ("SITE_URL", "http://127.0.0.1:8000"),
        ("EZ_SECRET_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("DATABASE_URL", "postgres://localhost/ez"),
        ("STRIPE_SECRET_KEY", "sk_test_1"),
        ("STRIPE_WEBHOOK_SECRET", "whsec_a, whsec_b"),
        ("PROXMOX_URL", "https://pve:8006"),
        ("PROXMOX_TOKEN_ID", "ez@pve!portal"),
        ("PROXMOX_TOKEN_SECRET", "s"),
        ("EZ_DNS_URL", "http://127.0.0.1:8081"),
        ("EZ_DNS_API_KEY", "k"),
        ("EZ_DNS_ZONE", "vps.example.test."),
        ("EZ_MAIL_FROM", "EZ <no-reply@example.test>"),
        ("EZ_STAFF_EMAIL", "staff@example.test"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

#[test]
fn defaults_fill_what_is_not_given() {
    let config = Config::from_values(&complete()).map_err(|f| f.to_string()).expect("complete");
    assert_eq!(config.stripe.webhook_secrets.len(), 2);
    assert_eq!(config.temporal.task_queue, "ez");
    assert_eq!(config.policy.order.payment_window_secs, 1_800);
    assert!(config.proxmox.verify_ssl);
}

#[test]
fn every_fault_is_reported_together() {
    let mut values = complete();
    values.remove("DATABASE_URL");
    values.insert("EZ_DNS_ZONE".into(), "no-dot".into());
    values.insert("EZ_SECRET_KEY".into(), "short".into());
    values.insert("EZ_WEB_LISTEN".into(), "nowhere".into());
    values.insert("EZ_POLICY_REMINDERS_SECS".into(), "5,x".into());
    let faults = Config::from_values(&values).err().expect("faults").0;
    for name in ["DATABASE_URL", "EZ_DNS_ZONE", "EZ_SECRET_KEY", "EZ_WEB_LISTEN", "EZ_POLICY_REMINDERS_SECS"] {
        assert_eq!(faults.iter().filter(|fault| fault.starts_with(name)).count(), 1, "{name} in {faults:?}");
    }
}

#[test]
fn a_production_start_with_unsafe_settings_is_refused() {
    let mut values = complete();
    values.insert("EZ_ENVIRONMENT".into(), "production".into());
    values.insert("PROXMOX_VERIFY_SSL".into(), "false".into());
    let faults = Config::from_values(&values).err().expect("faults").0;
    let unsafe_ones =
        ["SITE_URL", "PROXMOX_VERIFY_SSL", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "EZ_TRUSTED_PROXIES"];
    let factors = [
        ("EZ_STAFF_SECOND_FACTOR", "false", "true"),
        ("EZ_STEP_UP_SECS", "3601", "600"),
        ("EZ_FACTOR_RESET_SECS", "60", "86400"),
    ];
    for (name, unsafe_one, safe_one) in factors {
        for (value, is_refused) in [(unsafe_one, true), (safe_one, false)] {
            values.insert(name.into(), value.into());
            let faults = Config::from_values(&values).err().expect("faults").0;
            assert_eq!(faults.iter().any(|fault| fault.starts_with(name)), is_refused, "{name} {value}: {faults:?}");
        }
    }
    for name in unsafe_ones {
        assert!(faults.iter().any(|fault| fault.starts_with(name)), "{name} in {faults:?}");
    }
    for (proxies, is_refused) in [("172.16.0.0/12", false), ("10.0.0.1,::/0", true)] {
        values.insert("EZ_TRUSTED_PROXIES".into(), proxies.into());
        let faults = Config::from_values(&values).err().expect("faults").0;
        assert_eq!(faults.iter().any(|fault| fault.starts_with("EZ_TRUSTED")), is_refused, "{faults:?}");
    }
}

#[test]
fn a_lock_that_lasts_no_time_is_refused_everywhere() {
    let mut values = complete();
    values.insert("EZ_LIMIT_LOCK_SECS".into(), "1".into());
    assert!(Config::from_values(&values).is_ok(), "development may try short locks");
    values.insert("EZ_LIMIT_LOCK_SECS".into(), "0".into());
    let faults = Config::from_values(&values).err().expect("faults").0;
    assert!(faults.len() == 1 && faults[0].starts_with("EZ_LIMIT_LOCK_SECS: "), "{faults:?}");
}

#[test]
fn further_keys_are_keys_too() {
    let mut values = complete();
    let key = STANDARD.encode([7; 32]);
    values.insert("EZ_SECRET_KEYS_OTHER".into(), format!("{key}, {key}"));
    let config = Config::from_values(&values).map_err(|faults| faults.to_string()).expect("complete");
    assert_eq!(config.other_keys.len(), 2);
    values.insert("EZ_SECRET_KEYS_OTHER".into(), format!("{key},short"));
    let faults = Config::from_values(&values).err().expect("faults").0;
    assert!(faults.iter().any(|fault| fault.starts_with("EZ_SECRET_KEYS_OTHER")), "{faults:?}");
}

#[test]
fn every_secret_may_stand_in_a_file() {
    let folder = std::env::temp_dir().join(format!("ez-secrets-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (mut values, mut secrets) = (complete(), 0);
    values.insert("EZ_SECRET_KEYS_OTHER".into(), STANDARD.encode([7; 32]));
    for setting in SETTINGS.iter().filter(|setting| setting.secret) {
        let (file, given) = (folder.join(setting.name), values.remove(setting.name));
        fs::write(&file, given.unwrap_or_else(|| "postgres://localhost/other".to_owned()) + "\n").unwrap();
        values.insert(format!("{}_FILE", setting.name), file.display().to_string());
        secrets += 1;
    }
    values.insert("EZ_TURNSTILE_SITE_KEY".into(), "public".into());
    let config = Config::from_values(&values).map_err(|faults| faults.to_string()).expect("complete");
    assert!(secrets > 7 && config.stripe.secret_key.reveal() == "sk_test_1", "{secrets} secrets");
    assert_eq!((config.temporal.databases.len(), config.other_keys.len()), (1, 1));
    fs::remove_dir_all(folder).unwrap();
    values.insert("STRIPE_SECRET_KEY_FILE".into(), "/nowhere/at/all".into());
    let faults = Config::from_values(&values).err().expect("faults").0;
    assert!(faults.iter().any(|fault| fault.starts_with("STRIPE_SECRET_KEY_FILE")), "{faults:?}");
}
