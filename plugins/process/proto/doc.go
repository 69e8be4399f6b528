// Package proto is the protocol between Forebay and a plugin, as plugin.proto has it.
//
// plugin.pb.go has its messages and plugin_grpc.pb.go its service: both are generated and not edited. What answers Unimplemented there is
// protoc's, for servers that leave methods out; package serve leaves none out, or it would not compile.
package proto

//go:generate go run ./generate
