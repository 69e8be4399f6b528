package controller

import (
	"bytes"
	"cmp"
	"context"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/auth"
	"github.com/forebayhub/forebay/core/metadata"
)

// ScramChange sets or deletes a user's credential (KIP-554).
type ScramChange struct {
	User         string
	Mechanism    int8
	Iterations   int32
	Salt, Salted []byte
	Delete       bool
}

// ScramResult is what became of a user's change.
type ScramResult struct {
	User string
	Err  error
}

// AlterScram makes the changes that are sound, all in one command; one result for each user. A user may be named once.
func (c *Controller) AlterScram(ctx context.Context, changes []ScramChange) []ScramResult {
	late := c.plan.take(ctx)
	if late == nil {
		defer c.plan.give()
	}
	image := c.Image()
	cmd := &metadata.AlterScram{Set: map[metadata.ScramUser]metadata.ScramCredential{}}
	at := map[string]int{} // in results
	var results []ScramResult
	planned := map[string]ScramChange{}
	for _, ch := range changes {
		n, twice := at[ch.User]
		if !twice {
			n = len(results)
			at[ch.User] = n
			results = append(results, ScramResult{User: ch.User})
		}
		if twice {
			if results[n].Err == nil {
				results[n].Err = refuse(kerr.DuplicateResource, "A user credential cannot be altered twice in the same request")
				delete(planned, ch.User)
			}
			continue
		}
		if results[n].Err = cmp.Or(late, checkScram(image, ch)); results[n].Err == nil {
			planned[ch.User] = ch
		}
	}
	for name, ch := range planned {
		user := metadata.ScramUser{Name: name, Mechanism: ch.Mechanism}
		if ch.Delete {
			cmd.Remove = append(cmd.Remove, user)
			continue
		}
		cmd.Set[user] = metadata.ScramCredential(auth.NewCredential(auth.ScramMechanism(ch.Mechanism), bytes.Clone(ch.Salt), ch.Salted, int(ch.Iterations)))
	}
	if len(planned) == 0 {
		return results
	}
	if _, err := c.propose(ctx, cmd); err != nil {
		for n := range results {
			if results[n].Err == nil {
				results[n].Err = err
			}
		}
	}
	return results
}

// maxScramBytes bounds a name, a salt and a salted password: they are kept in the metadata.
const maxScramBytes = 1 << 10

// checkScram is Kafka's ScramControlManager, code by code.
func checkScram(image *metadata.Image, ch ScramChange) error {
	_, known := image.Scram[metadata.ScramUser{Name: ch.User, Mechanism: ch.Mechanism}]
	switch {
	case ch.User == "":
		return refuse(kerr.UnacceptableCredential, "Username must not be empty")
	case auth.ScramMechanism(ch.Mechanism) == "":
		return refuse(kerr.UnsupportedSaslMechanism, "Unknown SCRAM mechanism")
	case ch.Delete && !known:
		return refuse(kerr.ResourceNotFound, "Attempt to delete a user credential that does not exist")
	case ch.Delete:
		return nil
	case ch.Iterations < auth.MinIterations:
		return refuse(kerr.UnacceptableCredential, "Too few iterations")
	case ch.Iterations > auth.MaxIterations:
		return refuse(kerr.UnacceptableCredential, "Too many iterations")
	case len(ch.User) > maxScramBytes || len(ch.Salt) > maxScramBytes || len(ch.Salted) > maxScramBytes:
		return refuse(kerr.UnacceptableCredential, "The name, the salt or the password is longer than %d bytes", maxScramBytes)
	}
	return nil
}

// Scram finds a user's credential.
func (c *Controller) Scram(mechanism, user string) (auth.Credential, bool) {
	k, ok := c.Image().Scram[metadata.ScramUser{Name: user, Mechanism: auth.ScramType(mechanism)}]
	return auth.Credential(k), ok
}
