// Package wire reads and writes the outer shape of the Kafka protocol: frames
// and headers. Bodies belong to kmsg, or to the hand-written paths in core/server.
//
//	frame    = length int32, then that many bytes
//	request  = key int16, version int16, correlation id int32,
//	           client id nullable string (headers v1, v2), tags (v2)
//	response = correlation id int32, tags (v1)
//
// Header v2 and v1 go with the flexible versions of an API (KIP-482), but an
// ApiVersions response always has header v0, so that a client that does not
// know the broker can read it (KIP-511).
//
// Who waits when memory is short (invariant 9): a Reader takes a frame's bytes
// from a Budget that all connections share before it allocates them. When the
// budget is used up it stops reading, TCP fills up, and the client waits. A
// frame above the limit for its key is refused before anything is allocated, and
// one that does not come while others wait for its memory ends its connection.
//
// A Reader belongs to one goroutine; Budget and the buffer pools to everybody.
package wire
