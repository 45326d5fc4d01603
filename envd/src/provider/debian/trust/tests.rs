use pgp::packet::SignatureType;
use proptest::prelude::*;

use super::{
    testing::{BORN, Recipe, Signing, Subkey, TestKey, moment, sign_by},
    *,
};

const TEXT: &str = "Origin: Test\nSuite: trixie\n- dashed\nLast: line";
const DAY: u32 = 24 * 3600;

fn now() -> Moment {
    moment(BORN + DAY)
}

/// Why the only signature was refused.
fn reason(keyring: &Keyring, signed: &str, now: Moment) -> Reason {
    match keyring.verify(signed.as_bytes(), now) {
        Err(TrustError::NotTrusted(rejections)) if rejections.len() == 1 => {
            rejections[0].reason.clone()
        }
        other => panic!("{other:?}"),
    }
}

fn reason_for(recipe: Recipe, how: Signing, now: Moment) -> Reason {
    let key = TestKey::with(recipe);
    reason(&key.keyring(), &key.sign_as(TEXT, how), now)
}

fn by_subkey() -> Signing {
    Signing {
        by_subkey: true,
        ..Signing::default()
    }
}

fn with_subkey(subkey: Subkey) -> Recipe {
    Recipe {
        subkey,
        ..Recipe::default()
    }
}

#[test]
fn a_text_signed_by_a_trusted_key_is_believed() {
    let key = TestKey::new();
    let binary = Signing {
        kind: SignatureType::Binary,
        ..Signing::default()
    };
    for how in [Signing::default(), by_subkey(), binary] {
        let signed = key.sign_as(TEXT, how);
        let believed = key.keyring().verify(signed.as_bytes(), now()).unwrap();
        assert_eq!(believed.text, TEXT);
        assert_eq!(believed.signers, [key.fingerprint()]);
        assert_eq!(believed.signed, moment(BORN + 1000));
    }
}

#[test]
fn a_keyring_is_read_binary_or_armored_with_several_certificates() {
    let (one, two) = (TestKey::new(), TestKey::new());
    let mut both = one.binary();
    both.extend(two.binary());
    let both = Keyring::parse(&both).unwrap();
    assert_eq!(
        both.fingerprints().collect::<Vec<_>>(),
        [one.fingerprint(), two.fingerprint()]
    );
    assert!(both.verify(two.sign(TEXT).as_bytes(), now()).is_ok());
    let armored = Keyring::parse(one.armored().as_bytes()).unwrap();
    assert!(armored.verify(one.sign(TEXT).as_bytes(), now()).is_ok());
    for garbage in [&b""[..], b"no key", b"\x99\x01", &one.binary()[..60]] {
        assert!(matches!(
            Keyring::parse(garbage),
            Err(TrustError::Keyring(_))
        ));
    }
}

#[test]
fn one_good_signature_among_unknown_ones_is_enough() {
    let (known, stranger) = (TestKey::new(), TestKey::new());
    let how = Signing::default();
    let signed = sign_by(TEXT, &[(&stranger, how), (&known, how), (&stranger, how)]);
    let believed = known.keyring().verify(signed.as_bytes(), now()).unwrap();
    assert_eq!(believed.signers, [known.fingerprint()]);
}

#[test]
fn strangers_are_named() {
    let (known, stranger) = (TestKey::new(), TestKey::new());
    let refused = known
        .keyring()
        .verify(stranger.sign(TEXT).as_bytes(), now())
        .unwrap_err();
    assert!(
        refused.to_string().contains(&stranger.fingerprint()),
        "{refused}"
    );
    assert!(refused.to_string().contains("not in the keyring"));
}

#[test]
fn a_changed_text_is_refused() {
    let key = TestKey::new();
    let signed = key.sign(TEXT);
    let changed = signed.replace("trixie", "trixi3");
    assert_eq!(reason(&key.keyring(), &changed, now()), Reason::Tampered);
    // A line added within the frame, and text outside of it.
    let longer = signed.replace("Last: line", "Last: line\nMore: evil");
    assert_eq!(reason(&key.keyring(), &longer, now()), Reason::Tampered);
    for outside in [
        format!("{signed}Origin: evil\n"),
        format!("Origin: evil\n\n{signed}"),
    ] {
        assert!(matches!(
            key.keyring().verify(outside.as_bytes(), now()),
            Err(TrustError::Frame { .. })
        ));
    }
}

#[test]
fn the_signature_of_another_key_under_a_trusted_name_is_refused() {
    let (trusted, other) = (TestKey::new(), TestKey::new());
    let mut forged = other.signature(TEXT.replace('\n', "\r\n").as_bytes(), Signing::default());
    forged
        .unhashed_subpacket_push(
            pgp::packet::Subpacket::regular(pgp::packet::SubpacketData::IssuerFingerprint(
                pgp::types::KeyDetails::fingerprint(&trusted.certificate.primary_key),
            ))
            .unwrap(),
        )
        .unwrap();
    let message =
        pgp::composed::CleartextSignedMessage::new_many(TEXT, |_| Ok(vec![forged])).unwrap();
    let text = message.to_armored_string(Default::default()).unwrap();
    assert_eq!(reason(&trusted.keyring(), &text, now()), Reason::Tampered);
}

#[test]
fn an_expired_key_is_refused() {
    let recipe = Recipe {
        lifetime: Some(DAY),
        ..Recipe::default()
    };
    let key = TestKey::with(recipe);
    let signed = key.sign(TEXT);
    let before = moment(BORN + DAY - 1);
    assert!(key.keyring().verify(signed.as_bytes(), before).is_ok());
    let expired = Reason::KeyExpired(moment(BORN + DAY));
    assert_eq!(reason(&key.keyring(), &signed, now()), expired);
    // The primary's end is the end of its subkeys too.
    assert_eq!(reason_for(recipe, by_subkey(), now()), expired);
    let subkey = Recipe {
        subkey_lifetime: Some(DAY),
        ..Recipe::default()
    };
    assert_eq!(reason_for(subkey, by_subkey(), now()), expired);
    // A clock set back does not revive a signature that was made after the end.
    let late = Signing {
        at: BORN + DAY + 10,
        ..Signing::default()
    };
    assert_eq!(reason_for(recipe, late, before), expired);
}

#[test]
fn a_revoked_key_is_refused() {
    let recipe = Recipe {
        revoked: true,
        ..Recipe::default()
    };
    for how in [Signing::default(), by_subkey()] {
        assert_eq!(reason_for(recipe, how, now()), Reason::Revoked);
    }
    let subkey = with_subkey(Subkey::Revoked);
    assert_eq!(reason_for(subkey, by_subkey(), now()), Reason::Revoked);
    let key = TestKey::with(subkey);
    assert!(
        key.keyring()
            .verify(key.sign(TEXT).as_bytes(), now())
            .is_ok()
    );
    let id = Recipe {
        id_revoked: true,
        ..Recipe::default()
    };
    assert_eq!(reason_for(id, Signing::default(), now()), Reason::Unbound);
}

#[test]
fn a_subkey_that_is_not_bound_both_ways_is_refused() {
    for subkey in [Subkey::Unbound, Subkey::OneSided, Subkey::FalseBack] {
        assert_eq!(
            reason_for(with_subkey(subkey), by_subkey(), now()),
            Reason::Unbound
        );
    }
    // A stranger's subkey slipped into a trusted certificate, bindings and all.
    let (trusted, evil) = (TestKey::new(), TestKey::new());
    let mut certificate = trusted.certificate.clone();
    certificate
        .public_subkeys
        .clone_from(&evil.certificate.public_subkeys);
    let ring = Keyring {
        certificates: vec![certificate],
    };
    let signed = evil.sign_as(TEXT, by_subkey());
    assert_eq!(reason(&ring, &signed, now()), Reason::Unbound);
}

#[test]
fn a_key_for_something_else_is_refused() {
    let primary = Recipe {
        flags: Some(false),
        ..Recipe::default()
    };
    assert_eq!(
        reason_for(primary, Signing::default(), now()),
        Reason::NotForSigning
    );
    assert_eq!(
        reason_for(with_subkey(Subkey::NotForSigning), by_subkey(), now()),
        Reason::NotForSigning
    );
    let silent = TestKey::with(Recipe {
        flags: None,
        ..Recipe::default()
    });
    assert!(
        silent
            .keyring()
            .verify(silent.sign(TEXT).as_bytes(), now())
            .is_ok()
    );
}

/// Made by GnuPG 2.2, which still signs over SHA-1 and with short keys; `fixtures/README.md` says how.
fn fixture(name: &str) -> (Keyring, &'static [u8]) {
    let (keys, signed): (&[u8], &[u8]) = match name {
        "good" => (
            include_bytes!("fixtures/good.key"),
            include_bytes!("fixtures/good.asc"),
        ),
        "sha1-text" => (
            include_bytes!("fixtures/sha1-text.key"),
            include_bytes!("fixtures/sha1-text.asc"),
        ),
        "sha1-key" => (
            include_bytes!("fixtures/sha1-key.key"),
            include_bytes!("fixtures/sha1-key.asc"),
        ),
        "short-key" => (
            include_bytes!("fixtures/short-key.key"),
            include_bytes!("fixtures/short-key.asc"),
        ),
        _ => panic!("no fixture {name}"),
    };
    (Keyring::parse(keys).unwrap(), signed)
}

#[test]
fn what_gnupg_signs_is_believed() {
    let (ring, signed) = fixture("good");
    let now = "2026-12-01T00:00:00Z".parse().unwrap();
    let believed = ring.verify(signed, now).unwrap();
    assert_eq!(believed.text, "Origin: Test\n- dashed\n\nblanks at the end");
}

#[test]
fn weak_hashes_and_keys_are_refused() {
    let now = "2026-12-01T00:00:00Z".parse().unwrap();
    for (name, expected) in [
        ("sha1-text", Reason::WeakHash("SHA1".to_owned())),
        ("sha1-key", Reason::Unbound),
        ("short-key", Reason::WeakKey),
    ] {
        let (ring, signed) = fixture(name);
        let signed = std::str::from_utf8(signed).unwrap();
        assert_eq!(reason(&ring, signed, now), expected, "{name}");
    }
}

#[test]
fn a_signature_out_of_its_time_is_refused() {
    let short = Signing {
        lifetime: Some(60),
        ..Signing::default()
    };
    assert_eq!(
        reason_for(Recipe::default(), short, now()),
        Reason::SignatureExpired(moment(BORN + 1060))
    );
    let early = Signing {
        at: BORN - 1,
        ..Signing::default()
    };
    assert_eq!(
        reason_for(Recipe::default(), early, now()),
        Reason::OlderThanKey(moment(BORN))
    );
    let future = Signing {
        at: BORN + 3 * DAY,
        ..Signing::default()
    };
    assert_eq!(
        reason_for(Recipe::default(), future, now()),
        Reason::FromTheFuture(moment(BORN + 3 * DAY))
    );
}

#[test]
fn a_signature_of_another_kind_is_refused() {
    let key = TestKey::new();
    let text = key.signature(TEXT.replace('\n', "\r\n").as_bytes(), Signing::default());
    let mut config = text.config().unwrap().clone();
    config.typ = SignatureType::Standalone;
    let other = Signature::from_config(
        config,
        text.signed_hash_value().unwrap(),
        text.signature().unwrap().clone(),
    )
    .unwrap();
    let message =
        pgp::composed::CleartextSignedMessage::new_many(TEXT, |_| Ok(vec![other])).unwrap();
    let signed = message.to_armored_string(Default::default()).unwrap();
    assert_eq!(reason(&key.keyring(), &signed, now()), Reason::Unreadable);
}

#[test]
fn a_block_without_signatures_is_refused() {
    let key = TestKey::new();
    let empty = sign_by(TEXT, &[]);
    assert!(key.keyring().verify(empty.as_bytes(), now()).is_err());
    let signed = key.sign(TEXT);
    let end = signed.find("-----END").unwrap();
    let mangled = format!("{}!!!!\n{}", &signed[..end - 20], &signed[end..]);
    assert!(key.keyring().verify(mangled.as_bytes(), now()).is_err());
}

#[test]
fn the_keys_of_debian_are_shipped_and_sound() {
    let ring = Keyring::debian();
    assert_eq!(ring.fingerprints().count(), 9);
    let now = "2026-12-01T00:00:00Z".parse().unwrap();
    for certificate in &ring.certificates {
        let subkeys = certificate.public_subkeys.iter().map(Component::Subkey);
        for component in subkeys.chain([Component::Primary]) {
            certificate::authorise(certificate, component, now, now)
                .unwrap_or_else(|e| panic!("{}: {e}", component.fingerprint(certificate)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever one byte of a signed file becomes, it yields the signed text or nothing.
    #[test]
    fn no_flipped_byte_changes_what_is_believed(at in 0usize..600, to in any::<u8>()) {
        let key = TestKey::new();
        let mut bytes = key.sign(TEXT).into_bytes();
        let at = at % bytes.len();
        bytes[at] = to;
        if let Ok(believed) = key.keyring().verify(&bytes, now()) {
            prop_assert_eq!(believed.text, TEXT);
        }
    }
}
