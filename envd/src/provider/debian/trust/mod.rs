//! Which archives are believed: clearsigned InRelease files against a keyring of OpenPGP certificates.
//!
//! A text is believed when at least one signature over it is good, by a key whose certificate allows it: see
//! `certificate.rs`. Signatures by unknown keys are ignored, as archives sign with the next release's key too. Only the
//! signed text is ever handed out.

mod certificate;
mod cleartext;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::{fmt, io::BufReader, time::Duration};

use pgp::{
    armor::Dearmor,
    composed::{Deserializable, SignedPublicKey},
    packet::{Packet, PacketParser, Signature, SignatureType},
    types::Timestamp,
};

use self::{certificate::Component, cleartext::Frame};
use super::release::Moment;

/// How far another clock may be ahead of this machine's. A virtual machine that takes its host's local time for UTC is
/// up to 14 hours off; a day of lead gains an attacker nothing.
pub(crate) const CLOCK_TOLERANCE: Duration = Duration::from_secs(24 * 3600);

/// Something that is not to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A keyring that cannot be read.
    #[error("cannot read the keyring: {0}")]
    Keyring(String),
    /// A text that is not one clearsigned frame.
    #[error("it is not a clearsigned text, line {line}: {problem}")]
    Frame {
        /// Line, from 1.
        line: usize,
        /// What is wrong there.
        problem: &'static str,
    },
    /// A frame whose signature block cannot be read.
    #[error("its signature block cannot be read: {0}")]
    SignatureBlock(String),
    /// No signature counts.
    #[error(
        "no signature by a trusted key is good: {}. Use another mirror, or a newer envd if the archive has new keys",
        Listed(.0)
    )]
    NotTrusted(Vec<Rejection>),
}

/// One signature, and why it does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Fingerprint or id of the key that the signature names, in capital hexadecimal digits.
    pub key: String,
    /// Why.
    pub reason: Reason,
}

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The keyring does not hold the key.
    #[error("not in the keyring")]
    Unknown,
    /// The signature is not over this text.
    #[error("the text was changed after it was signed")]
    Tampered,
    /// The hash can be forged.
    #[error("signed over {0}, which is too weak")]
    WeakHash(String),
    /// The key can be forged.
    #[error("the key's algorithm or size is too weak")]
    WeakKey,
    /// The key is past its time.
    #[error("the key expired on {0}")]
    KeyExpired(Moment),
    /// Its owner withdrew the key.
    #[error("the key was revoked")]
    Revoked,
    /// The certificate does not vouch for the key.
    #[error("no valid self-signature binds the key to its certificate")]
    Unbound,
    /// The key is for something else.
    #[error("the key is not for signing")]
    NotForSigning,
    /// The signature is past its time.
    #[error("the signature expired on {0}")]
    SignatureExpired(Moment),
    /// The signature is dated later than now.
    #[error("signed on {0}, which is yet to come: check this machine's clock")]
    FromTheFuture(Moment),
    /// The signature is dated before its key.
    #[error("signed before the key was made on {0}")]
    OlderThanKey(Moment),
    /// The signature is of a kind that does not sign texts, or says something critical that is not understood.
    #[error("a kind of signature that is not understood")]
    Unreadable,
}

struct Listed<'a>(&'a [Rejection]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("there is none");
        }
        for (n, Rejection { key, reason }) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "; " };
            write!(f, "{comma}{key} ({reason})")?;
        }
        Ok(())
    }
}

/// A text that someone trusted signed.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The signed text, lines ending with `\n` but for the last.
    pub text: String,
    /// Fingerprints of the certificates whose good signatures it bears.
    pub signers: Vec<String>,
    /// When the newest of those signatures was made.
    pub signed: Moment,
}

/// The text within a frame, believed by nobody yet: for what was verified before it was kept.
pub(super) fn signed_text(bytes: &[u8]) -> Result<String, TrustError> {
    Frame::parse(bytes).map(|frame| frame.text)
}

/// Certificates that are believed.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    certificates: Vec<SignedPublicKey>,
}

impl Keyring {
    /// Reads one or more certificates, binary or armored.
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustError> {
        let refuse = |e: pgp::errors::Error| TrustError::Keyring(e.to_string());
        // A binary certificate starts with a packet's tag, whose highest bit is set.
        let certificates = match bytes.first() {
            Some(byte) if byte & 0x80 != 0 => SignedPublicKey::from_bytes_many(bytes)
                .map_err(refuse)?
                .collect::<Result<Vec<_>, _>>(),
            _ => SignedPublicKey::from_armor_many(bytes)
                .map_err(refuse)?
                .0
                .collect(),
        }
        .map_err(refuse)?;
        match certificates.is_empty() {
            true => Err(TrustError::Keyring("it holds no certificate".to_owned())),
            false => Ok(Self { certificates }),
        }
    }

    /// The keys of the Debian archive, from bullseye to sid (`keys/README.md` says where they come from).
    pub fn debian() -> Self {
        const FILES: [&[u8]; 9] = [
            include_bytes!("../keys/debian-archive-bullseye-automatic.gpg"),
            include_bytes!("../keys/debian-archive-bullseye-security-automatic.gpg"),
            include_bytes!("../keys/debian-archive-bullseye-stable.gpg"),
            include_bytes!("../keys/debian-archive-bookworm-automatic.gpg"),
            include_bytes!("../keys/debian-archive-bookworm-security-automatic.gpg"),
            include_bytes!("../keys/debian-archive-bookworm-stable.gpg"),
            include_bytes!("../keys/debian-archive-trixie-automatic.gpg"),
            include_bytes!("../keys/debian-archive-trixie-security-automatic.gpg"),
            include_bytes!("../keys/debian-archive-trixie-stable.gpg"),
        ];
        let mut ring = Self::default();
        for file in FILES {
            ring.extend(Self::parse(file).expect("the shipped keys parse: a test reads them"));
        }
        ring
    }

    /// Takes in the certificates of another keyring.
    pub fn extend(&mut self, other: Self) {
        self.certificates.extend(other.certificates);
    }

    /// The fingerprints of the certificates.
    pub fn fingerprints(&self) -> impl Iterator<Item = String> {
        self.certificates
            .iter()
            .map(|certificate| certificate::name(&certificate.primary_key))
    }

    /// The text that `bytes`, one clearsigned frame, holds, if a key of this ring vouches for it.
    pub fn verify(&self, bytes: &[u8], now: Moment) -> Result<Signed, TrustError> {
        let frame = Frame::parse(bytes)?;
        let data = frame.signed_bytes();
        let mut signers = Vec::new();
        let mut newest = None;
        let mut rejections = Vec::new();
        for signature in read_signatures(frame.armor)? {
            match self.judge(&signature, &data, now) {
                Ok((signer, made)) => {
                    newest = newest.max(Some(made));
                    if !signers.contains(&signer) {
                        signers.push(signer);
                    }
                }
                Err(rejection) => rejections.push(rejection),
            }
        }
        match newest {
            Some(signed) => Ok(Signed {
                text: frame.text,
                signers,
                signed,
            }),
            None => Err(TrustError::NotTrusted(rejections)),
        }
    }

    /// The fingerprint of the certificate behind a signature, and when it was made.
    fn judge(
        &self,
        signature: &Signature,
        data: &[u8],
        now: Moment,
    ) -> Result<(String, Moment), Rejection> {
        let mut rejection = Rejection {
            key: issuer(signature),
            reason: Reason::Unknown,
        };
        for certificate in &self.certificates {
            for component in certificate::named_by(certificate, signature) {
                match judge_by(certificate, component, signature, data, now) {
                    Ok(made) => return Ok((certificate::name(&certificate.primary_key), made)),
                    Err(reason) => {
                        rejection = Rejection {
                            key: component.fingerprint(certificate),
                            reason,
                        };
                    }
                }
            }
        }
        Err(rejection)
    }
}

fn judge_by(
    certificate: &SignedPublicKey,
    component: Component<'_>,
    signature: &Signature,
    data: &[u8],
    now: Moment,
) -> Result<Moment, Reason> {
    // Some signers write the binary type; over this frame both are made from the same bytes.
    if !matches!(
        signature.typ(),
        Some(SignatureType::Text | SignatureType::Binary)
    ) {
        return Err(Reason::Unreadable);
    }
    certificate::check_hash(signature)?;
    certificate::check_subpackets(signature)?;
    if !component.made(certificate, signature, data) {
        return Err(Reason::Tampered);
    }
    let made = certificate::check_time(signature, now)?;
    certificate::authorise(certificate, component, made, now)?;
    Ok(made)
}

/// The name a signature gives its maker, which proves nothing and is for messages.
fn issuer(signature: &Signature) -> String {
    let fingerprints = signature.issuer_fingerprint();
    let ids = signature.issuer_key_id();
    match (fingerprints.first(), ids.first()) {
        (Some(fingerprint), _) => fingerprint.to_string().to_uppercase(),
        (None, Some(id)) => id.to_string().to_uppercase(),
        (None, None) => "an unnamed key".to_owned(),
    }
}

/// More signatures than any archive makes, so that a hostile block costs little.
const MOST_SIGNATURES: usize = 32;

fn read_signatures(armor: &str) -> Result<Vec<Signature>, TrustError> {
    let refuse = |e: String| TrustError::SignatureBlock(e);
    let mut dearmor = Dearmor::new(armor.as_bytes());
    dearmor.read_header().map_err(|e| refuse(e.to_string()))?;
    let mut signatures = Vec::new();
    for packet in PacketParser::new(BufReader::new(&mut dearmor)) {
        match packet {
            Ok(Packet::Signature(signature)) => signatures.push(signature),
            Ok(other) => return Err(refuse(format!("it holds a {:?}", kind(&other)))),
            // A format of the future is no reason to refuse the signatures beside it.
            Err(pgp::errors::Error::Unsupported { .. }) => {}
            Err(e) => return Err(refuse(e.to_string())),
        }
        if signatures.len() > MOST_SIGNATURES {
            return Err(refuse(format!(
                "it holds over {MOST_SIGNATURES} signatures"
            )));
        }
    }
    Ok(signatures)
}

fn kind(packet: &Packet) -> pgp::types::Tag {
    use pgp::packet::PacketTrait;
    packet.tag()
}

impl From<Timestamp> for Moment {
    fn from(timestamp: Timestamp) -> Self {
        Self::from_unix(timestamp.as_secs().into())
    }
}
