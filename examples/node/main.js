// Sorts versions with a library that Debian packages, and says where it runs.
"use strict";

const fs = require("node:fs");
const semver = require("semver");

const release = fs.readFileSync("/etc/os-release", "utf8");
const [, version] = release.match(/^VERSION_ID="?([^"\n]+)/m) ?? [null, "?"];

console.log(`inside Debian ${version}`);
console.log(`node ${process.version}`);

const versions = ["1.10.0", "1.9.3", "2.0.0-rc.1", "1.9.10"];
console.log(`semver ${semver.sort(versions).join(" < ")}`);
