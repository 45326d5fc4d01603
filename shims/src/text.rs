//! Paths and arguments in JSON: a string where they are UTF-8, an array of bytes where they are not, so that a plan
//! prints readably and still round-trips for a project in a directory with a strange name. Used by `serde(with)`.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One piece of text as JSON has it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Text {
    Readable(String),
    Bytes(Vec<u8>),
}

impl From<&OsStr> for Text {
    fn from(text: &OsStr) -> Self {
        match text.to_str() {
            Some(text) => Text::Readable(text.to_owned()),
            None => Text::Bytes(text.as_bytes().to_vec()),
        }
    }
}

impl From<Text> for OsString {
    fn from(text: Text) -> Self {
        match text {
            Text::Readable(text) => text.into(),
            Text::Bytes(bytes) => OsString::from_vec(bytes),
        }
    }
}

/// What has such a form.
pub(crate) trait Textual: Sized {
    type Form: Serialize + for<'de> Deserialize<'de>;
    fn to_form(&self) -> Self::Form;
    fn from_form(form: Self::Form) -> Self;
}

impl Textual for OsString {
    type Form = Text;
    fn to_form(&self) -> Text {
        self.as_os_str().into()
    }
    fn from_form(form: Text) -> Self {
        form.into()
    }
}

impl Textual for PathBuf {
    type Form = Text;
    fn to_form(&self) -> Text {
        self.as_os_str().into()
    }
    fn from_form(form: Text) -> Self {
        OsString::from(form).into()
    }
}

impl<T: Textual> Textual for Vec<T> {
    type Form = Vec<T::Form>;
    fn to_form(&self) -> Self::Form {
        self.iter().map(T::to_form).collect()
    }
    fn from_form(form: Self::Form) -> Self {
        form.into_iter().map(T::from_form).collect()
    }
}

impl<T: Textual> Textual for BTreeMap<String, T> {
    type Form = BTreeMap<String, T::Form>;
    fn to_form(&self) -> Self::Form {
        let form = |(key, value): (&String, &T)| (key.clone(), value.to_form());
        self.iter().map(form).collect()
    }
    fn from_form(form: Self::Form) -> Self {
        let value = |(key, value)| (key, T::from_form(value));
        form.into_iter().map(value).collect()
    }
}

pub(crate) fn serialize<T: Textual, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.to_form().serialize(serializer)
}

pub(crate) fn deserialize<'de, T: Textual, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    T::Form::deserialize(deserializer).map(T::from_form)
}
