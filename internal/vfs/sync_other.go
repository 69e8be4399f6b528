//go:build !linux

package vfs

// Sync is os.File's: on macOS that is F_FULLFSYNC, since its fsync leaves the bytes in the drive's cache.
func (f diskFile) Sync() error { return f.File.Sync() }
