// Package pause waits between two tries.
package pause

import (
	"context"
	"time"
)

// For waits for d, or gives ctx's error when that ends first.
func For(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
