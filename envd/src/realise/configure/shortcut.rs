//! Scripts of packages with some of their lines said otherwise: the same comes of it, with fewer processes. Of the 1,500 that were
//! started to configure 547 packages of bookworm, two scripts of `ca-certificates` started 1,100, one after the other for each
//! certificate.
//!
//! A line is known by its text. A script that lacks one of the lines, or has it twice, is another script, and runs as it is.

use envd_store::{Store, Tree};

use crate::realise::{RealiseError, checked, compose};

/// A script and its lines that are said otherwise.
pub struct Shortcut {
    /// The script, without a leading slash.
    pub path: &'static str,
    /// A program that the new lines need, without a leading slash.
    pub needs: &'static str,
    /// Lines and what does the same.
    pub lines: &'static [(&'static str, &'static str)],
}

/// All of them. The texts are part of every key (`recipe::words`).
pub const SHORTCUTS: [Shortcut; 2] = [
    // Whether a certificate is a line of a list: without two copies of the shell and a grep.
    Shortcut {
        path: "var/lib/dpkg/info/ca-certificates.config",
        needs: "usr/bin/sh",
        lines: &[
            (
                "\nmembers()\n{\n",
                "\nhas_line()\n{\n  case \"\n$1\n\" in *\"\n$2\n\"*) return 0;; esac\n  return 1\n}\n\nmembers()\n{\n",
            ),
            (
                "   if (echo \"$CERTS_DISABLED\" | grep -F -q -x \"$crt\") > /dev/null 2>&1; then\n",
                "   if has_line \"$CERTS_DISABLED\" \"$crt\"; then\n",
            ),
            (
                "   elif (echo \"$CERTS_TRUST\" | grep -F -q -x \"$crt\") > /dev/null 2>&1; then\n",
                "   elif has_line \"$CERTS_TRUST\" \"$crt\"; then\n",
            ),
        ],
    },
    // A certificate's name by the shell itself; links and the bundle by one process at the end, in the order in which they were
    // asked for.
    Shortcut {
        path: "usr/sbin/update-ca-certificates",
        needs: "usr/bin/perl",
        lines: &[
            (
                "TEMPBUNDLE=\"${ETCCERTSDIR}/${CERTBUNDLE}.new\"\n",
                "TEMPBUNDLE=\"${ETCCERTSDIR}/${CERTBUNDLE}.new\"\nLATER=/run/envd/later\n",
            ),
            (
                "  PEM=\"$ETCCERTSDIR/$(basename \"$CERT\" .crt | sed -e 's/ /_/g' \\\n\
                 \x20                                                 -e 's/[()]/=/g' \\\n\
                 \x20                                                 -e 's/,/_/g').pem\"\n",
                "  PEM=${CERT##*/}\n\
                 \x20 case $PEM in ?*.crt) PEM=${PEM%.crt};; esac\n\
                 \x20 case $PEM in\n\
                 \x20 *[\\ \\(\\),]*) PEM=$(printf '%s\\n' \"$PEM\" | sed -e 's/ /_/g' -e 's/[()]/=/g' -e 's/,/_/g');;\n\
                 \x20 esac\n\
                 \x20 PEM=\"$ETCCERTSDIR/$PEM.pem\"\n",
            ),
            (
                "    ln -sf \"$CERT\" \"$PEM\"\n",
                "    printf 'l%s\\0%s\\0' \"$CERT\" \"$PEM\" >> \"$LATER\"\n",
            ),
            (
                "  sed -e '$a\\' \"$CERT\" >> \"$TEMPBUNDLE\"\n",
                "  printf 'c%s\\0\\0' \"$CERT\" >> \"$LATER\"\n",
            ),
            (
                "ADDED_CNT=$(wc -l < \"$ADDED\")\n",
                "if test -e \"$LATER\"\n\
                 then\n\
                 \x20 perl -e '\n\
                 $/ = undef;\n\
                 my ($later, $bundle) = @ARGV;\n\
                 open my $list, \"<\", $later or die \"$later: $!\\n\";\n\
                 my @words = split /\\0/, <$list>, -1;\n\
                 pop @words;\n\
                 while (my ($certificate, $link) = splice @words, 0, 2) {\n\
                 \x20 if (\"l\" eq substr $certificate, 0, 1, \"\") {\n\
                 \x20   unlink $link;\n\
                 \x20   symlink $certificate, $link or die \"$link: $!\\n\";\n\
                 \x20   next;\n\
                 \x20 }\n\
                 \x20 open my $file, \"<\", $certificate or die \"$certificate: $!\\n\";\n\
                 \x20 my $text = <$file>;\n\
                 \x20 $text .= \"\\n\" if length $text and $text !~ /\\n\\z/;\n\
                 \x20 open my $to, \">>\", $bundle or die \"$bundle: $!\\n\";\n\
                 \x20 print $to $text;\n\
                 \x20 close $to or die \"$bundle: $!\\n\";\n\
                 }\n\
                 ' \"$LATER\" \"$TEMPBUNDLE\"\n\
                 fi\n\
                 ADDED_CNT=$(wc -l < \"$ADDED\")\n",
            ),
            (
                "  find \"$ETCCERTSDIR\" -type l ! -exec test -e {} \\; -print |",
                "  find \"$ETCCERTSDIR\" -type l -xtype l -print |",
            ),
        ],
    },
];

impl Shortcut {
    /// The script of this root said otherwise, if all that takes is there.
    pub fn of(&self, store: &Store, root: &Tree) -> Result<Option<String>, RealiseError> {
        let has = |path| root.get(&checked(path)).is_some();
        if !has(self.path) || !has(self.needs) {
            return Ok(None);
        }
        let script = compose::read(store, root, self.path)?;
        Ok(script
            .and_then(|script| String::from_utf8(script).ok())
            .and_then(|script| self.said_otherwise(script)))
    }

    fn said_otherwise(&self, mut script: String) -> Option<String> {
        for (from, to) in self.lines {
            let (before, after) = script.split_once(from)?;
            if after.contains(from) {
                return None;
            }
            script = [before, to, after].concat();
        }
        Some(script)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::realise::configure::recipe::WORKPLACE;

    #[test]
    fn files_for_later_are_in_the_workplace() {
        let [_, update] = SHORTCUTS;
        let mut texts = update.lines.iter().map(|(_, to)| *to);
        assert!(texts.any(|text| text.contains(&format!("LATER={WORKPLACE}/later\n"))));
    }

    #[test]
    fn a_script_that_is_another_is_left_alone() {
        let shortcut = Shortcut {
            path: "x",
            needs: "y",
            lines: &[("a\n", "b\n"), ("c\n", "")],
        };
        let said = |script: &str| shortcut.said_otherwise(script.to_owned());
        assert_eq!(said("1\na\nc\n2\n"), Some("1\nb\n2\n".to_owned()));
        assert_eq!(said("1\na\n2\n"), None);
        assert_eq!(said("a\nc\nc\n"), None);
    }
}
