package controller

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forebayhub/forebay/core/metadata"
)

// hung is a quorum that has no leader: proposals wait until their context ends.
type hung struct{ *quorum }

func (h hung) Propose(ctx context.Context, _ metadata.Command) (metadata.Result, error) {
	<-ctx.Done()
	return metadata.Result{}, ctx.Err()
}

// While one client has an hour for its change, another that has a second hears after a second that it is not to be had.
func TestNobodyWaitsForAnothersPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Options{Quorum: hung{newController(t, 1, nil).quorum.(*quorum)}, NodeID: 1})
		patient, leave := context.WithTimeout(t.Context(), time.Hour)
		defer leave()
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.CreateTopics(patient, []NewTopic{{Name: "a", Partitions: 1, Replication: 1}}, false)
		}()
		synctest.Wait()
		for name, ask := range map[string]func(context.Context) error{
			"topics": func(ctx context.Context) error {
				_, errs := c.CreateTopics(ctx, []NewTopic{{Name: "b", Partitions: 1, Replication: 1}}, false)
				return errs[0]
			},
			"quotas": func(ctx context.Context) error { return c.AlterQuotas(ctx, make([]QuotaAlteration, 1), false)[0] },
			"scram":  func(ctx context.Context) error { return c.AlterScram(ctx, make([]ScramChange, 1))[0].Err },
			"groups": func(ctx context.Context) error { return c.AlterGroupConfigs(ctx, "g", nil, false) },
		} {
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := ask(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
				t.Errorf("%s: %v after %v", name, err, time.Since(began))
			}
			cancel()
		}
		leave()
		<-done
	})
}
