//go:build unix

package vfs

import "syscall"

// OpenLimit is how many files the process may have open (RLIMIT_NOFILE, whose soft limit Go raises to the hard one at
// the start); 0: not known.
func OpenLimit() uint64 {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return uint64(l.Cur) //nolint:unconvert // signed on some systems
}
