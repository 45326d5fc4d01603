#!/usr/bin/env bash
# A version manager's shim as Bash makes them, to measure ours against: it walks up from where it is called to the file that
# says which version is wanted, finds that version among those that are installed, and becomes the tool.
set -euo pipefail
installs=${INSTALLS:?}
tool=${0##*/}

wanted_in() {
	local name versions
	while read -r name versions || [[ -n $name ]]; do
		if [[ $name == "$1" ]]; then
			printf '%s\n' "${versions%% *}"
			return 0
		fi
	done <"$2"
	return 1
}

wanted() {
	local directory=$PWD version
	while :; do
		if [[ -f $directory/.tool-versions ]] && version=$(wanted_in "$tool" "$directory/.tool-versions"); then
			printf '%s\n' "$version"
			return 0
		fi
		[[ -n $directory ]] || break
		directory=${directory%/*}
	done
	return 1
}

if ! version=$(wanted); then
	printf 'no version of %s is set here\n' "$tool" >&2
	exit 126
fi
program=$installs/$tool/$version/bin/$tool
if [[ ! -x $program ]]; then
	printf '%s %s is not installed\n' "$tool" "$version" >&2
	exit 127
fi
PATH=$installs/$tool/$version/bin:$PATH exec "$program" "$@"
