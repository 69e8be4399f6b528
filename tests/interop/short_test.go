//go:build !long

package interop

// long is false in the form that CI runs.
const long = false
