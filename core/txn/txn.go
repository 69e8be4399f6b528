// Package txn is the transaction coordinator.
//
// STUB: the coordinator room owns this package.
package txn

// Coordinator coordinates the transactional ids whose __transaction_state partition this node leads.
type Coordinator struct{}
