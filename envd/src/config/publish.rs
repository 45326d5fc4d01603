//! `agent.publish`: which ports of lent environments may be reached from the machine.

use std::collections::BTreeSet;

use envd_agents::policy::Publishing;
use toml::{Spanned, de::DeValue};

use super::reader::{Fault, Reader};

/// Reads `true`, `false`, or the ports outside that may be taken beside those that are free.
pub(super) fn publishing(reader: &mut Reader, value: &Spanned<DeValue<'_>>) -> Option<Publishing> {
    match value.get_ref() {
        DeValue::Boolean(false) => Some(Publishing::Nothing),
        DeValue::Boolean(true) => Some(Publishing::At(BTreeSet::new())),
        DeValue::Array(ports) => {
            let port = |port| reader.number("agent.publish[]", port, 1..=u32::from(u16::MAX));
            let ports = ports.iter().filter_map(port);
            let ports = ports.filter_map(|port| port.try_into().ok());
            Some(Publishing::At(ports.collect()))
        }
        _ => {
            let fault = Fault {
                message: "`agent.publish` must be true, false or an array of ports".to_owned(),
                help: Some(
                    "write true for ports that are free, [3000] for those and port 3000".to_owned(),
                ),
            };
            reader.report(value.span(), fault);
            None
        }
    }
}
