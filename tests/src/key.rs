//! Archive keys made for a test: a version 4 OpenPGP key with a signing subkey, as Debian's archive keys are.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgp::{
    composed::{
        ArmorOptions, CleartextSignedMessage, KeyType, SecretKeyParamsBuilder, SignedPublicKey,
        SignedSecretKey, SubkeyParamsBuilder,
    },
    packet::{SignatureConfig, SignatureType, Subpacket, SubpacketData},
    ser::Serialize as _,
    types::{KeyDetails as _, Password, Timestamp},
};

use crate::clock::DAY;

/// A key pair whose public half goes into a keyring file.
#[derive(Clone, Debug)]
pub struct Key {
    secret: SignedSecretKey,
}

impl Key {
    /// A new key, a month old.
    pub fn generate(owner: &str) -> Self {
        let created = timestamp(SystemTime::now() - 30 * DAY);
        let signing = SubkeyParamsBuilder::default()
            .key_type(KeyType::Ed25519Legacy)
            .can_sign(true)
            .created_at(created)
            .build()
            .expect("complete parameters");
        let secret = SecretKeyParamsBuilder::default()
            .key_type(KeyType::Ed25519Legacy)
            .can_certify(true)
            .can_sign(true)
            .created_at(created)
            .primary_user_id(format!("{owner} <{owner}@example.invalid>"))
            .subkey(signing)
            .build()
            .expect("complete parameters")
            .generate(rand::thread_rng())
            .expect("key generation needs nothing but random numbers");
        Self { secret }
    }

    /// The public half, as a keyring file holds it (binary).
    pub fn keyring(&self) -> Vec<u8> {
        SignedPublicKey::from(self.secret.clone())
            .to_bytes()
            .expect("memory")
    }

    /// The text clearsigned by the signing subkey, as InRelease is.
    pub fn clearsign(&self, text: &str) -> String {
        self.clearsign_at(text, SystemTime::now() - Duration::from_secs(60))
    }

    /// The same, with the signature dated `moment`.
    pub fn clearsign_at(&self, text: &str, moment: SystemTime) -> String {
        let signer = &self.secret.secret_subkeys[0].key;
        let regular = |data| Subpacket::regular(data).expect("small subpacket");
        let mut config = SignatureConfig::from_key(rand::thread_rng(), signer, SignatureType::Text)
            .expect("a signing key");
        config.hashed_subpackets = vec![
            regular(SubpacketData::SignatureCreationTime(timestamp(moment))),
            regular(SubpacketData::IssuerFingerprint(signer.fingerprint())),
        ];
        config.unhashed_subpackets =
            vec![regular(SubpacketData::IssuerKeyId(signer.legacy_key_id()))];
        CleartextSignedMessage::new(text, config, signer, &Password::empty())
            .and_then(|message| message.to_armored_string(ArmorOptions::default()))
            .expect("signing in memory")
    }
}

fn timestamp(moment: SystemTime) -> Timestamp {
    let seconds = moment
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    Timestamp::from_secs(seconds as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// gpgv, which apt trusts, must take the signature, and must not take a stranger's.
    #[test]
    fn gpgv_accepts_the_signature() {
        if !crate::requirement::program("gpgv") {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let (own, stranger) = (Key::generate("archive"), Key::generate("stranger"));
        let keyring = directory.path().join("keyring.gpg");
        let message = directory.path().join("InRelease");
        std::fs::write(&keyring, own.keyring()).unwrap();
        for (key, good) in [(&own, true), (&stranger, false)] {
            std::fs::write(&message, key.clearsign("Suite: stable\n- dashed\n")).unwrap();
            let output = Command::new("gpgv")
                .arg("--keyring")
                .arg(&keyring)
                .arg(&message)
                .output()
                .unwrap();
            assert_eq!(output.status.success(), good, "{output:?}");
        }
    }
}
