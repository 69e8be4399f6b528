// Package proto is the protocol between Forebay and a plugin, as plugin.proto has it.
package proto

//go:generate go run ./generate
