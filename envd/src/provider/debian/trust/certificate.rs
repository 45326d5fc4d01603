//! Whether a key of a certificate may sign an archive (RFC 9580 sections 5.2 and 10.1).
//!
//! `pgp` verifies single signatures; what they mean together is decided here: the primary key must vouch for itself and
//! for a subkey, a signing subkey must vouch for its primary, and revocations and expiry count.

use pgp::{
    composed::{SignedPublicKey, SignedPublicSubKey},
    crypto::hash::HashAlgorithm,
    packet::{Signature, SignatureType, SubpacketData},
    ser::Serialize,
    types::{KeyDetails, PublicParams, Tag},
};

use super::Reason;
use crate::provider::debian::release::Moment;

/// A key that may have made a signature.
#[derive(Clone, Copy)]
pub(super) enum Component<'a> {
    Primary,
    Subkey(&'a SignedPublicSubKey),
}

impl Component<'_> {
    /// Whether the key itself made `signature` over `data`.
    pub(super) fn made(
        self,
        certificate: &SignedPublicKey,
        signature: &Signature,
        data: &[u8],
    ) -> bool {
        match self {
            Self::Primary => signature.verify(&certificate.primary_key, data).is_ok(),
            Self::Subkey(subkey) => signature.verify(&subkey.key, data).is_ok(),
        }
    }

    pub(super) fn fingerprint(self, certificate: &SignedPublicKey) -> String {
        match self {
            Self::Primary => name(&certificate.primary_key),
            Self::Subkey(subkey) => name(&subkey.key),
        }
    }
}

/// A fingerprint as people compare it.
pub(super) fn name(key: &impl KeyDetails) -> String {
    key.fingerprint().to_string().to_uppercase()
}

/// The keys of `certificate` that `signature` names as its maker.
pub(super) fn named_by<'a>(
    certificate: &'a SignedPublicKey,
    signature: &Signature,
) -> Vec<Component<'a>> {
    let fingerprints = signature.issuer_fingerprint();
    let ids = signature.issuer_key_id();
    // A fingerprint is exact, a key id (64 bits) only where an old signer wrote nothing better.
    let names = |key: &dyn Fn() -> (pgp::types::Fingerprint, pgp::types::KeyId)| {
        let (fingerprint, id) = key();
        match fingerprints.is_empty() {
            false => fingerprints.iter().any(|named| **named == fingerprint),
            true => ids.iter().any(|named| **named == id),
        }
    };
    let primary = &certificate.primary_key;
    let mut found = Vec::new();
    if names(&|| (primary.fingerprint(), primary.legacy_key_id())) {
        found.push(Component::Primary);
    }
    for subkey in &certificate.public_subkeys {
        if names(&|| (subkey.key.fingerprint(), subkey.key.legacy_key_id())) {
            found.push(Component::Subkey(subkey));
        }
    }
    found
}

/// Refuses a key that may not sign, or could not have signed at `signed`.
pub(super) fn authorise(
    certificate: &SignedPublicKey,
    component: Component<'_>,
    signed: Moment,
    now: Moment,
) -> Result<(), Reason> {
    let primary = &certificate.primary_key;
    let details = &certificate.details;
    check_strength(primary.public_params())?;
    // A revocation only ever takes trust away, so that even one with a weak hash counts.
    let revoked = details
        .revocation_signatures
        .iter()
        .any(|revocation| revocation.verify_key(primary).is_ok());
    if revoked {
        return Err(Reason::Revoked);
    }
    let own = newest(self_signatures(certificate, now)).ok_or(Reason::Unbound)?;
    check_lifetime(
        primary.created_at().into(),
        own.key_expiration_time(),
        signed,
        now,
    )?;
    let subkey = match component {
        Component::Primary => {
            return match may_sign(own) {
                true => Ok(()),
                false => Err(Reason::NotForSigning),
            };
        }
        Component::Subkey(subkey) => subkey,
    };
    check_strength(subkey.key.public_params())?;
    let revoked = subkey.signatures.iter().any(|signature| {
        signature.typ() == Some(SignatureType::SubkeyRevocation)
            && signature
                .verify_subkey_binding(primary, &subkey.key)
                .is_ok()
    });
    if revoked {
        return Err(Reason::Revoked);
    }
    let bindings = subkey.signatures.iter().filter(|signature| {
        signature.typ() == Some(SignatureType::SubkeyBinding)
            && is_sound(signature, now)
            && signature
                .verify_subkey_binding(primary, &subkey.key)
                .is_ok()
    });
    let binding = newest(bindings).ok_or(Reason::Unbound)?;
    if !states_flags(binding) || !binding.key_flags().sign() {
        return Err(Reason::NotForSigning);
    }
    // Without the subkey's own word anyone could adopt another's signing key, and its signatures.
    let back = binding.embedded_signature().ok_or(Reason::Unbound)?;
    let adopted = back.typ() == Some(SignatureType::KeyBinding)
        && is_sound(back, now)
        && back
            .verify_primary_key_binding(&subkey.key, primary)
            .is_ok();
    if !adopted {
        return Err(Reason::Unbound);
    }
    check_lifetime(
        subkey.key.created_at().into(),
        binding.key_expiration_time(),
        signed,
        now,
    )
}

/// The signatures by which the primary key speaks for itself: direct ones, and those over user ids that still stand.
fn self_signatures(certificate: &SignedPublicKey, now: Moment) -> impl Iterator<Item = &Signature> {
    let primary = &certificate.primary_key;
    let direct = certificate
        .details
        .direct_signatures
        .iter()
        .filter(move |signature| {
            signature.typ() == Some(SignatureType::Key)
                && is_sound(signature, now)
                && signature.verify_key(primary).is_ok()
        });
    let over_ids = certificate.details.users.iter().flat_map(move |user| {
        let own = move |signature: &&Signature| {
            signature
                .verify_certification(primary, Tag::UserId, &user.id)
                .is_ok()
        };
        let withdrawn = user
            .signatures
            .iter()
            .filter(|signature| signature.typ() == Some(SignatureType::CertRevocation))
            .any(|signature| own(&signature));
        user.signatures.iter().filter(move |signature| {
            !withdrawn
                && signature.typ() != Some(SignatureType::CertRevocation)
                && is_sound(signature, now)
                && own(signature)
        })
    });
    direct.chain(over_ids)
}

fn newest<'a>(signatures: impl Iterator<Item = &'a Signature>) -> Option<&'a Signature> {
    signatures.max_by_key(|signature| signature.created())
}

/// Whether a signature of the certificate counts at all: made by now, not expired, over a strong hash.
fn is_sound(signature: &Signature, now: Moment) -> bool {
    check_hash(signature).is_ok()
        && check_subpackets(signature).is_ok()
        && check_time(signature, now).is_ok()
}

/// Whether the self-signature says what the key is for. One that is silent allows everything (RFC 9580 5.2.3.29).
fn may_sign(own: &Signature) -> bool {
    !states_flags(own) || own.key_flags().sign()
}

fn states_flags(signature: &Signature) -> bool {
    signature.config().is_some_and(|config| {
        config
            .hashed_subpackets()
            .any(|subpacket| matches!(subpacket.data, SubpacketData::KeyFlags(_)))
    })
}

/// SHA-256 and what is stronger. SHA-1 and MD5 can be made to collide, so that a signature over them proves nothing.
pub(super) fn check_hash(signature: &Signature) -> Result<(), Reason> {
    match signature.hash_alg() {
        Some(
            HashAlgorithm::Sha256
            | HashAlgorithm::Sha384
            | HashAlgorithm::Sha512
            | HashAlgorithm::Sha3_256
            | HashAlgorithm::Sha3_512,
        ) => Ok(()),
        Some(weak) => Err(Reason::WeakHash(weak.to_string())),
        None => Err(Reason::Unreadable),
    }
}

/// Something marked critical that this code does not understand makes a signature void (RFC 9580 5.2.3.7).
pub(super) fn check_subpackets(signature: &Signature) -> Result<(), Reason> {
    let config = signature.config().ok_or(Reason::Unreadable)?;
    let strange = config.hashed_subpackets().any(|subpacket| {
        subpacket.is_critical
            && matches!(
                subpacket.data,
                SubpacketData::Notation(_)
                    | SubpacketData::Experimental(..)
                    | SubpacketData::Other(..)
                    | SubpacketData::RegularExpression(_)
                    | SubpacketData::IntendedRecipientFingerprint(_)
                    | SubpacketData::SignatureTarget(..)
            )
    });
    match strange {
        true => Err(Reason::Unreadable),
        false => Ok(()),
    }
}

/// When the signature was made, if it stands at `now`.
pub(super) fn check_time(signature: &Signature, now: Moment) -> Result<Moment, Reason> {
    let made = signature.created().ok_or(Reason::Unreadable)?;
    let expiry = signature
        .signature_expiration_time()
        .filter(|d| d.as_secs() != 0);
    let made: Moment = made.into();
    if made > now.plus(super::CLOCK_TOLERANCE) {
        return Err(Reason::FromTheFuture(made));
    }
    match expiry.map(|d| made.plus(d.into())) {
        Some(end) if end <= now => Err(Reason::SignatureExpired(end)),
        _ => Ok(made),
    }
}

fn check_lifetime(
    created: Moment,
    expiry: Option<pgp::types::Duration>,
    signed: Moment,
    now: Moment,
) -> Result<(), Reason> {
    if signed < created {
        return Err(Reason::OlderThanKey(created));
    }
    let end = expiry
        .filter(|duration| duration.as_secs() != 0)
        .map(|duration| created.plus(duration.into()));
    match end {
        Some(end) if end <= signed || end <= now => Err(Reason::KeyExpired(end)),
        _ => Ok(()),
    }
}

/// Keys that can be forged with today's means sign nothing.
fn check_strength(params: &PublicParams) -> Result<(), Reason> {
    match params {
        PublicParams::RSA(rsa) => {
            // The modulus comes first, as an MPI: its length in bits, then its bytes.
            let bits = match rsa.to_bytes() {
                Ok(bytes) if bytes.len() > 2 => u16::from_be_bytes([bytes[0], bytes[1]]),
                _ => 0,
            };
            match bits {
                2048.. => Ok(()),
                _ => Err(Reason::WeakKey),
            }
        }
        PublicParams::ECDSA(_)
        | PublicParams::EdDSALegacy(_)
        | PublicParams::Ed25519(_)
        | PublicParams::Ed448(_) => Ok(()),
        _ => Err(Reason::WeakKey),
    }
}
