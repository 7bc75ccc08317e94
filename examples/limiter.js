// limiter.c in JavaScript: five requests a minute for every user, remembered in a directory.
//
//     npm install koffi
//     node limiter.js /tmp/limits && node limiter.js /tmp/limits
"use strict";
const { execFileSync } = require("node:child_process");
const { readFileSync } = require("node:fs");
const koffi = require("koffi");

const [CHECKS, MOST_LISTED, MS_NS, MAX_UINT64] = [7, 16, 1_000_000, 2n ** 64n - 1n];

const tell = (what) => execFileSync("flint-config", [`--${what}`], { encoding: "utf8" }).trim();
const library = koffi.load(tell("library"));

// The constants and structures are read from the header, so they are the library's.
const header = readFileSync(`${tell("includedir")}/flint_limiter.h`, "utf8");
const flint = {};
for (const [, name, value] of header.matchAll(/^#define FLINT_LIMITER_(\w+) (\d+)\b/gm)) {
  flint[name] = Number(value);
}
for (const [, name, body] of header.matchAll(/^typedef struct (\w+) \{(.*?)^\}/gms)) {
  const fields = {};
  const declarations = body.replace(/\/\*.*?\*\//gs, "").matchAll(/(\S+) (\w+)(\[\d+\])?;/g);
  for (const [, type, field, length] of declarations) {
    fields[field] = /\*|clock/.test(type) ? "void*" : type + (length ?? "");
  }
  koffi.struct(name, fields);
}

// A structure of the header: zeros, but for its size in front.
function sized(name) {
  const size = koffi.sizeof(name);
  return { ...koffi.decode(Buffer.alloc(size), name), struct_size: size };
}

// A function of the library that ends the program when it fails.
function declare(name, parameters) {
  const prototype = `int32_t flint_limiter_${name}(${parameters}, _Inout_ flint_limiter_error*)`;
  const native = library.func(prototype);
  return (...values) => {
    const error = sized("flint_limiter_error");
    if (native(...values, error) === flint.OK) return;
    console.error(`${name}: ${error.message}`);
    process.exit(1);
  };
}
const [KEY, RESULT] = ["const char*, uint64_t", "_Inout_ flint_limiter_result*"];
const ENTRIES = "void*, uint64_t, uint64_t, void*, uint64_t, _Out_ uint64_t*";
const open = declare("open", `${KEY}, void*, _Out_ void**`);
const limit = declare("limit", "void*, flint_limiter_config*, uint32_t, void*");
const check = declare("check", `void*, ${KEY}, uint64_t, uint32_t, void*, ${RESULT}`);
const wait = declare("wait", "void*, uint64_t, uint64_t");
const list = declare("list", `void*, ${KEY}, uint32_t, uint32_t, ${ENTRIES}`);
const close = declare("close", "_Inout_ void**");

function configureUsers(limiter) {
  const kind = flint.KIND_TEMPLATE; // a counter for every key that starts with it
  const [key, key_bytes] = [Buffer.from("user:"), 5];
  const quantities = { rate: 5, per_ns: 60_000 * MS_NS, algorithm: flint.TOKEN_BUCKET };
  const config = { ...sized("flint_limiter_config"), kind, key, key_bytes, ...quantities };
  limit(limiter, config, 0, null);
}

// Returns at once; what it has written is on disk when its ticket is.
function checkUser(limiter, key) {
  const result = sized("flint_limiter_result");
  check(limiter, key, Buffer.byteLength(key), 1, flint.NO_SYNC, null, result);
  const decision = result.allowed ? "allowed" : "denied";
  const retryMs = Math.ceil(result.retry_after_ns / MS_NS);
  console.log(`${key}: ${decision}, ${result.remaining} remaining, retry after ${retryMs} ms`);
  return result.ticket;
}

function showLimits(limiter) {
  const [type, all, count] = ["flint_limiter_status_info", flint.ALL_COUNTERS, [0]];
  const size = koffi.sizeof(type);
  const page = Buffer.alloc(MOST_LISTED * size);
  for (let i = 0; i < MOST_LISTED; ++i) page.writeUInt32LE(size, i * size);
  const text = Buffer.alloc(flint.MIN_TEXT_BYTES); // for the keys
  list(limiter, null, 0, 0, all, page, MOST_LISTED, size, text, text.length, count);
  for (const { key, key_bytes, ...status } of koffi.decode(page, type, count[0])) {
    const name = koffi.decode(key, "char", key_bytes);
    const star = status.kind === flint.KIND_TEMPLATE ? "*" : "";
    const limit = `${status.rate} every ${status.per_ns / MS_NS} ms`;
    const totals = `${status.total_allowed} allowed, ${status.total_denied} denied`;
    console.log(`${name}${star}: ${limit}, ${totals}`);
  }
}

if (process.argv.length !== 3) throw new Error("usage: node limiter.js DIRECTORY");
const handle = [null];
open(process.argv[2], Buffer.byteLength(process.argv[2]), null, handle);
configureUsers(handle[0]);
const tickets = Array.from({ length: CHECKS }, () => checkUser(handle[0], "user:42"));
wait(handle[0], Math.max(...tickets), MAX_UINT64); // a denial's ticket is 0
console.log("everything is on disk");
showLimits(handle[0]);
close(handle);
