//! Keys and clearsigned texts made for tests, wrong in whatever way a test asks for.

use pgp::{
    composed::{
        ArmorOptions, CleartextSignedMessage, KeyType, SecretKeyParamsBuilder, SignedKeyDetails,
        SignedPublicKey, SignedPublicSubKey, SignedSecretKey, SubkeyParamsBuilder,
    },
    crypto::hash::HashAlgorithm,
    packet::{
        KeyFlags, RevocationCode, Signature, SignatureConfig, SignatureType, Subpacket,
        SubpacketData,
    },
    ser::Serialize,
    types::{Duration, Password, SignedUser, SigningKey, Tag, Timestamp},
};

use super::{Keyring, Moment};

/// When keys of tests are made, unless said otherwise: 2026-01-01.
pub(crate) const BORN: u32 = 1_767_225_600;

/// How a certificate is made.
#[derive(Clone, Copy)]
pub(crate) struct Recipe {
    pub(crate) lifetime: Option<u32>,
    pub(crate) flags: Option<bool>,
    pub(crate) revoked: bool,
    pub(crate) id_revoked: bool,
    pub(crate) subkey: Subkey,
    pub(crate) subkey_lifetime: Option<u32>,
}

/// What a certificate says of its subkey.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Subkey {
    Sound,
    /// No binding signature by the primary, but one by the subkey itself.
    Unbound,
    /// No back signature.
    OneSided,
    /// The back signature is by the primary.
    FalseBack,
    NotForSigning,
    Revoked,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            lifetime: None,
            flags: Some(true),
            revoked: false,
            id_revoked: false,
            subkey: Subkey::Sound,
            subkey_lifetime: None,
        }
    }
}

/// A key pair, its certificate shaped by a [`Recipe`].
pub(crate) struct TestKey {
    secret: SignedSecretKey,
    pub(crate) certificate: SignedPublicKey,
}

/// How a text is signed.
#[derive(Clone, Copy)]
pub(crate) struct Signing {
    pub(crate) at: u32,
    pub(crate) by_subkey: bool,
    pub(crate) kind: SignatureType,
    pub(crate) lifetime: Option<u32>,
}

impl Default for Signing {
    fn default() -> Self {
        Self {
            at: BORN + 1000,
            by_subkey: false,
            kind: SignatureType::Text,
            lifetime: None,
        }
    }
}

fn config(
    key: &impl SigningKey,
    kind: SignatureType,
    at: u32,
    more: Vec<SubpacketData>,
) -> SignatureConfig {
    let mut config = SignatureConfig::v4(kind, key.algorithm(), HashAlgorithm::Sha256);
    let mut data = vec![
        SubpacketData::SignatureCreationTime(Timestamp::from_secs(at)),
        SubpacketData::IssuerFingerprint(key.fingerprint()),
    ];
    data.extend(more);
    config.hashed_subpackets = data
        .into_iter()
        .map(|data| Subpacket::regular(data).unwrap())
        .collect();
    config
}

fn described(flags: Option<bool>, lifetime: Option<u32>) -> Vec<SubpacketData> {
    let mut data = Vec::new();
    if let Some(sign) = flags {
        let mut flags = KeyFlags::default();
        flags.set_certify(true);
        flags.set_sign(sign);
        data.push(SubpacketData::KeyFlags(flags));
    }
    if let Some(lifetime) = lifetime {
        data.push(SubpacketData::KeyExpirationTime(Duration::from_secs(
            lifetime,
        )));
    }
    data
}

impl TestKey {
    pub(crate) fn new() -> Self {
        Self::with(Recipe::default())
    }

    pub(crate) fn with(recipe: Recipe) -> Self {
        let mut subkey = SubkeyParamsBuilder::default();
        subkey
            .key_type(KeyType::Ed25519Legacy)
            .created_at(Timestamp::from_secs(BORN))
            .can_sign(true);
        let mut primary = SecretKeyParamsBuilder::default();
        primary
            .key_type(KeyType::Ed25519Legacy)
            .created_at(Timestamp::from_secs(BORN))
            .can_certify(true)
            .can_sign(true)
            .primary_user_id("Archive of a test <test@example.org>".to_owned())
            .subkey(subkey.build().unwrap());
        let secret = primary
            .build()
            .unwrap()
            .generate(rand08::rngs::OsRng)
            .unwrap();
        let certificate = shape(&secret, recipe);
        Self {
            secret,
            certificate,
        }
    }

    pub(crate) fn fingerprint(&self) -> String {
        super::certificate::name(&self.certificate.primary_key)
    }

    pub(crate) fn keyring(&self) -> Keyring {
        Keyring {
            certificates: vec![self.certificate.clone()],
        }
    }

    pub(crate) fn binary(&self) -> Vec<u8> {
        self.certificate.to_bytes().unwrap()
    }

    pub(crate) fn armored(&self) -> String {
        self.certificate
            .to_armored_string(ArmorOptions::default())
            .unwrap()
    }

    pub(crate) fn signature(&self, crlf_text: &[u8], how: Signing) -> Signature {
        let lifetime = how
            .lifetime
            .map(|l| SubpacketData::SignatureExpirationTime(Duration::from_secs(l)));
        let more: Vec<_> = lifetime.into_iter().collect();
        let password = Password::empty();
        match how.by_subkey {
            false => {
                let key = &self.secret.primary_key;
                config(key, how.kind, how.at, more).sign(key, &password, crlf_text)
            }
            true => {
                let key = &self.secret.secret_subkeys[0].key;
                config(key, how.kind, how.at, more).sign(key, &password, crlf_text)
            }
        }
        .unwrap()
    }

    pub(crate) fn sign(&self, text: &str) -> String {
        self.sign_as(text, Signing::default())
    }

    pub(crate) fn sign_as(&self, text: &str, how: Signing) -> String {
        sign_by(text, &[(self, how)])
    }
}

pub(crate) fn sign_by(text: &str, signers: &[(&TestKey, Signing)]) -> String {
    CleartextSignedMessage::new_many(text, |crlf| {
        let sign = |(key, how): &(&TestKey, Signing)| key.signature(crlf.as_bytes(), *how);
        Ok(signers.iter().map(sign).collect())
    })
    .unwrap()
    .to_armored_string(ArmorOptions::default())
    .unwrap()
}

pub(crate) fn moment(seconds: u32) -> Moment {
    Moment::from_unix(seconds.into())
}

fn shape(secret: &SignedSecretKey, recipe: Recipe) -> SignedPublicKey {
    let password = Password::empty();
    let key = &secret.primary_key;
    let public = key.public_key();
    let revocation = |kind| {
        let reason = SubpacketData::RevocationReason(RevocationCode::NoReason, Vec::new().into());
        config(key, kind, BORN + 500, vec![reason])
    };
    let id = secret.details.users[0].id.clone();
    let describe = described(recipe.flags, recipe.lifetime);
    let mut over_id = vec![
        config(key, SignatureType::CertPositive, BORN, describe)
            .sign_certification(key, &public, &password, Tag::UserId, &id)
            .unwrap(),
    ];
    if recipe.id_revoked {
        over_id.push(
            revocation(SignatureType::CertRevocation)
                .sign_certification(key, &public, &password, Tag::UserId, &id)
                .unwrap(),
        );
    }
    let mut revocations = Vec::new();
    if recipe.revoked {
        revocations.push(
            revocation(SignatureType::KeyRevocation)
                .sign_key(key, &password, &public)
                .unwrap(),
        );
    }
    SignedPublicKey {
        primary_key: public.clone(),
        details: SignedKeyDetails::new(
            revocations,
            Vec::new(),
            vec![SignedUser::new(id, over_id)],
            Vec::new(),
        ),
        public_subkeys: vec![shape_subkey(secret, recipe)],
    }
}

fn shape_subkey(secret: &SignedSecretKey, recipe: Recipe) -> SignedPublicSubKey {
    let password = Password::empty();
    let key = &secret.primary_key;
    let public = key.public_key();
    let subkey = &secret.secret_subkeys[0].key;
    let public_subkey = subkey.public_key();
    let back_kind = SignatureType::KeyBinding;
    let back = match recipe.subkey {
        Subkey::OneSided => None,
        Subkey::FalseBack => Some(
            config(key, back_kind, BORN, Vec::new())
                .sign_primary_key_binding(key, &public_subkey, &password, &public)
                .unwrap(),
        ),
        _ => Some(
            config(subkey, back_kind, BORN, Vec::new())
                .sign_primary_key_binding(subkey, &public_subkey, &password, &public)
                .unwrap(),
        ),
    };
    let mut describe = described(
        Some(recipe.subkey != Subkey::NotForSigning),
        recipe.subkey_lifetime,
    );
    describe.extend(back.map(|back| SubpacketData::EmbeddedSignature(Box::new(back))));
    let kind = SignatureType::SubkeyBinding;
    let mut signatures = vec![match recipe.subkey {
        Subkey::Unbound => config(subkey, kind, BORN, describe)
            .sign_subkey_binding(subkey, &public, &password, &public_subkey)
            .unwrap(),
        _ => config(key, kind, BORN, describe)
            .sign_subkey_binding(key, &public, &password, &public_subkey)
            .unwrap(),
    }];
    if recipe.subkey == Subkey::Revoked {
        signatures.push(
            config(key, SignatureType::SubkeyRevocation, BORN + 500, Vec::new())
                .sign_subkey_binding(key, &public, &password, &public_subkey)
                .unwrap(),
        );
    }
    SignedPublicSubKey::new(public_subkey.clone(), signatures)
}
