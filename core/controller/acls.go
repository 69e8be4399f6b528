package controller

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/auth"
	"github.com/forebayhub/forebay/core/metadata"
)

// maxACLs bounds one request that makes or removes ACLs, as Kafka's MAX_RECORDS_PER_USER_OP.
const maxACLs = 10_000

// CreateACLs adds the ACLs that are sound, all in one command; one result for each.
func (c *Controller) CreateACLs(ctx context.Context, acls []auth.ACL) []error {
	errs := make([]error, len(acls))
	cmd := &metadata.AlterACLs{}
	for n, a := range acls {
		if err := a.Check(); err != nil {
			errs[n] = refuse(kerr.InvalidRequest, "%s", err)
			continue
		}
		cmd.Add = append(cmd.Add, metadata.ACL(a))
	}
	var err error
	if len(cmd.Add) > maxACLs {
		err = refuse(kerr.PolicyViolation, "%d ACLs in one request, at most %d are allowed", len(cmd.Add), maxACLs)
	} else if len(cmd.Add) > 0 {
		_, err = c.propose(ctx, cmd)
	}
	for n := range errs {
		if errs[n] == nil {
			errs[n] = err
		}
	}
	return errs
}

// ACLs are those that a filter finds, in order.
func (c *Controller) ACLs(f auth.Filter) (list []auth.ACL) {
	for _, a := range c.Image().ACLs {
		if a := auth.ACL(a); f.Matches(a) {
			list = append(list, a)
		}
	}
	return list
}

// DeletedACLs is what became of one filter of DeleteACLs.
type DeletedACLs struct {
	ACLs []auth.ACL
	Err  error
}

// DeleteACLs removes what the filters find, all in one command. An ACL that two filters find is the first one's.
func (c *Controller) DeleteACLs(ctx context.Context, filters []auth.Filter) []DeletedACLs {
	out := make([]DeletedACLs, len(filters))
	cmd := &metadata.AlterACLs{}
	gone := map[auth.ACL]bool{}
	for n, f := range filters {
		if err := f.Check(); err != nil {
			out[n].Err = refuse(kerr.InvalidRequest, "%s", err)
			continue
		}
		for _, a := range c.ACLs(f) {
			if !gone[a] {
				gone[a] = true
				out[n].ACLs, cmd.Remove = append(out[n].ACLs, a), append(cmd.Remove, metadata.ACL(a))
			}
		}
	}
	var err error
	if len(cmd.Remove) > maxACLs {
		err = refuse(kerr.PolicyViolation, "%d ACLs in one request, at most %d are allowed", len(cmd.Remove), maxACLs)
	} else if len(cmd.Remove) > 0 {
		_, err = c.propose(ctx, cmd)
	}
	if err != nil {
		for n := range out {
			if out[n].Err == nil && len(out[n].ACLs) > 0 {
				out[n] = DeletedACLs{Err: err}
			}
		}
	}
	return out
}
