package replica

import (
	"context"

	"github.com/forebayhub/forebay/core/metadata"
)

// ISRAlterer has ISR changes agreed on by the cluster; the controller is behind it.
//
// AlterPartition gives one result for each change:
//   - nil: agreed; the new state comes with an Image.
//   - metadata.ErrStale: the partition, or its leader's registration, has changed since; the newer state comes with an Image.
//   - metadata.ErrIneligible: a member is fenced, or registered anew since it fetched. The change was not made, and will not be.
//   - metadata.ErrUnknownTopic: it is deleted.
//   - anything else: nobody knows. It may have been made, or be made later; it is asked for again.
//
// It may block until ctx ends.
type ISRAlterer interface {
	AlterPartition(ctx context.Context, changes []metadata.ISRChange) []error
}
