// Package group is the group coordinator: classic groups and committed offsets.
//
// STUB: the coordinator room owns this package.
package group

// Coordinator coordinates the groups whose __consumer_offsets partition this node leads.
type Coordinator struct{}
