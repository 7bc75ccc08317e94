// limiter.c in Go: five requests a minute for every user, remembered in a directory.
//
//	export CGO_CFLAGS="$(flint-config --cflags)" CGO_LDFLAGS="$(flint-config --libs)"
//	go build limiter.go
//	./limiter /tmp/limits && ./limiter /tmp/limits
package main

// #include <stdlib.h>
// #include <flint_limiter.h>
import "C"

import (
	"fmt"
	"os"
	"unsafe"
)

const checks, mostListed, msNS = 7, 16, 1_000_000

var failure = C.flint_limiter_error{struct_size: C.sizeof_flint_limiter_error}

// require ends the program when a call has failed.
func require(what string, code C.int32_t) {
	if code != C.FLINT_LIMITER_OK {
		fmt.Fprintf(os.Stderr, "%s: %s\n", what, C.GoString(&failure.message[0]))
		os.Exit(1)
	}
}

// text copies a string to C's memory.
func text(s string) (*C.char, C.uint64_t) {
	return C.CString(s), C.uint64_t(len(s))
}

func configureUsers(limiter *C.flint_limiter) {
	config := C.flint_limiter_config{struct_size: C.sizeof_flint_limiter_config}
	config.kind = C.FLINT_LIMITER_KIND_TEMPLATE // a counter for every key that starts with it
	config.key, config.key_bytes = text("user:")
	defer C.free(unsafe.Pointer(config.key))
	config.rate, config.per_ns = 5, 60_000*msNS
	config.algorithm = C.FLINT_LIMITER_TOKEN_BUCKET
	require("limit", C.flint_limiter_limit(limiter, &config, 0, nil, &failure))
}

// checkUser returns at once; what it has written is on disk when its ticket is.
func checkUser(limiter *C.flint_limiter, key string) C.uint64_t {
	result := C.flint_limiter_result{struct_size: C.sizeof_flint_limiter_result}
	name, size := text(key)
	defer C.free(unsafe.Pointer(name))
	require("check", C.flint_limiter_check(limiter, name, size, 1, C.FLINT_LIMITER_NO_SYNC, nil,
		&result, &failure))
	decision := map[C.uint32_t]string{0: "denied", 1: "allowed"}[result.allowed]
	fmt.Printf("%s: %s, %d remaining, retry after %d ms\n", key, decision, result.remaining,
		(result.retry_after_ns+msNS-1)/msNS)
	return result.ticket
}

func list(limiter *C.flint_limiter) {
	keys := C.malloc(C.FLINT_LIMITER_MIN_TEXT_BYTES)
	defer C.free(keys)
	var page [mostListed]C.flint_limiter_status_info
	for i := range page {
		page[i].struct_size = C.sizeof_flint_limiter_status_info
	}
	var count C.uint64_t
	require("list", C.flint_limiter_list(limiter, nil, 0, 0, C.FLINT_LIMITER_ALL_COUNTERS, &page[0],
		mostListed, C.sizeof_flint_limiter_status_info, (*C.char)(keys),
		C.FLINT_LIMITER_MIN_TEXT_BYTES, &count, &failure))
	for _, status := range page[:count] {
		key := C.GoStringN(status.key, C.int(status.key_bytes))
		if status.kind == C.FLINT_LIMITER_KIND_TEMPLATE {
			key += "*"
		}
		fmt.Printf("%s: %d every %d ms, %d allowed, %d denied\n", key, status.rate,
			status.per_ns/msNS, status.total_allowed, status.total_denied)
	}
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintf(os.Stderr, "usage: %s DIRECTORY\n", os.Args[0])
		os.Exit(2)
	}
	path, size := text(os.Args[1])
	defer C.free(unsafe.Pointer(path))
	var limiter *C.flint_limiter
	require("open", C.flint_limiter_open(path, size, nil, &limiter, &failure))
	configureUsers(limiter)
	var last C.uint64_t
	for i := 0; i < checks; i++ {
		last = max(last, checkUser(limiter, "user:42")) // a denial has no ticket
	}
	require("wait", C.flint_limiter_wait(limiter, last, C.UINT64_MAX, &failure))
	fmt.Println("everything is on disk")
	list(limiter)
	require("close", C.flint_limiter_close(&limiter, &failure))
}
