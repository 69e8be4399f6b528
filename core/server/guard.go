package server

import (
	"context"

	"github.com/forebayhub/forebay/core/txn"
)

// TxnGuard is what Produce asks the transaction coordinator before it appends
// the first batch of a transaction to a partition (KIP-890). The answer has one
// Kafka error code per partition; 0: append.
type TxnGuard interface {
	// VerifyOrAdd checks that the producer has an ongoing transaction with these
	// partitions in it; add puts them into it instead, as the clients of transaction version 2 expect.
	VerifyOrAdd(ctx context.Context, transactionalID string, producerID int64, epoch int16, parts []txn.TopicPartition, add bool) []int16
}

func guardOf(c *txn.Coordinator) TxnGuard {
	if c == nil {
		return nil
	}
	return c
}
