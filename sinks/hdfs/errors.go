package hdfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"github.com/colinmarc/hdfs/v2"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/problem"
)

// remote is what a namenode answered, when err is such an answer.
func remote(err error) (hdfs.Error, bool) {
	var r hdfs.Error
	ok := errors.As(err, &r)
	return r, ok
}

// Java exceptions that another attempt can mend.
var transient = []string{
	"StandbyException", "RetriableException", "SafeModeException", "ObserverRetryOnActiveException", "NotReplicatedYetException",
}

// isAnswer says whether a namenode answered, and the same question would be answered the same again.
func isAnswer(err error) bool {
	if r, ok := remote(err); ok {
		for _, t := range transient {
			if strings.HasSuffix(r.Exception(), t) {
				return false
			}
		}
		// A namenode that starts up answers RPCs of clients before it can serve them.
		return !strings.Contains(r.Message(), "NameNode still not started") && !strings.Contains(r.Message(), "in safe mode")
	}
	for _, known := range []error{fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, fs.ErrInvalid, syscall.ENOTEMPTY} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// isNamenodeTrouble says whether err came from the way to a namenode, not from a datanode.
func isNamenodeTrouble(err error) bool {
	var n *namenodeError
	if errors.As(err, &n) {
		return true
	}
	if _, ok := remote(err); ok {
		return !isAnswer(err)
	}
	// The library makes this text out of the dial error, which is lost.
	return strings.Contains(err.Error(), "no available namenodes")
}

func isException(err error, name string) bool {
	r, ok := remote(err)
	return ok && strings.HasSuffix(r.Exception(), name)
}

// explain turns an error of an operation on a path into one for a person.
func (t *Target) explain(op, path string, err error) error {
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrExist), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, fs.ErrPermission):
		hint := fmt.Sprintf("let the HDFS user %s write there, or name another user in the url: hdfs://USER@HOST/…", t.opts.User)
		return connectors.Fatal(&problem.Error{Code: "hdfs-permission", Class: problem.Environment, Where: t.where(path),
			What: fmt.Sprintf("HDFS does not let user %s %s this", t.opts.User, op), Hint: hint, Err: err}, hint)
	case isNamenodeTrouble(err) && !isAnswer(err):
		if r, ok := remote(err); ok {
			return &problem.Error{Code: "hdfs-not-ready", Class: problem.Environment, Where: t.where(""),
				What: "the namenode is not ready: " + firstLine(r.Message()), Hint: "it may be starting, or in safe mode: hdfs dfsadmin -safemode get", Err: err}
		}
		what := "no namenode answers"
		if cause := t.dialer.namenodeTrouble(); cause != nil {
			what += ": " + cause.Error()
		} else {
			what += ": " + err.Error()
		}
		return &problem.Error{Code: "hdfs-unreachable", Class: problem.Environment, Where: t.where(""), What: what,
			Hint: "check the url, and that the namenode runs and its RPC port (8020 by default) is reachable from here", Err: err}
	}
	if r, ok := remote(err); ok {
		return fmt.Errorf("%s %s: %s: %w", op, t.where(path), firstLine(r.Message()), err)
	}
	return fmt.Errorf("%s %s: %w", op, t.where(path), err)
}

// where names a path as a url.
func (t *Target) where(path string) string {
	return "hdfs://" + strings.Join(t.opts.Namenodes, ",") + path
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}

// backoff waits between attempts: 50 ms, growing by half up to 2 s.
type backoff struct{ next time.Duration }

func (b *backoff) wait(ctx context.Context) error {
	if b.next == 0 {
		b.next = 50 * time.Millisecond
	}
	timer := time.NewTimer(b.next)
	defer timer.Stop()
	b.next = min(b.next*3/2, 2*time.Second)
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
