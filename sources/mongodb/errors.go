package mongodb

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/forebayhub/forebay/connectors"
)

// Codes of the server's errors (error_codes.yml) that mean something here.
const (
	codeUnauthorized       = 13
	codeUserNotFound       = 11
	codeAuthentication     = 18
	codeInvalidResumeToken = 260
	codeFatalStream        = 280 // the resume token was not found
	codeHistoryLost        = 286
	codeTooLarge           = 10334 // BSONObjectTooLarge: an event above 16 MB
	codeNotReplicaSet      = 40573
)

func code(err error) int32 {
	var c mongo.CommandError
	if errors.As(err, &c) {
		return c.Code
	}
	return 0
}

// final makes a Fatal error of one that no retry can mend; nil for any other.
func (s *source) final(err error) error {
	switch code(err) {
	case codeHistoryLost:
		return connectors.Fatal(fmt.Errorf("the oplog does not reach back to where the log stands: changes are gone (%w)", err),
			"reset the source's positions for a new snapshot, and enlarge the oplog: db.adminCommand({replSetResizeOplog: 1, minRetentionHours: 48})")
	case codeFatalStream, codeInvalidResumeToken:
		return connectors.Fatal(fmt.Errorf("the server cannot go on from the resume token (%w)", err), "reset the source's positions for a new snapshot")
	case codeTooLarge:
		return connectors.Fatal(fmt.Errorf("a change event is larger than the 16 MB that the server can send (%w)", err),
			"MongoDB 6.0.9 and later split such events; before, images: lookup or smaller documents help")
	case codeNotReplicaSet:
		return connectors.Fatal(fmt.Errorf("the server is not a member of a replica set: %w", err), standaloneHint)
	case codeUnauthorized:
		return connectors.Fatal(fmt.Errorf("the user may not do this: %w", err), s.grant())
	case codeAuthentication, codeUserNotFound:
		return connectors.Fatal(fmt.Errorf("the server refuses the user: %w", err), "check user, password and authSource in url")
	}
	if connectors.IsFatal(err) {
		return err
	}
	return nil
}

// grant is the command that gives a user what the source needs.
func (s *source) grant() string {
	if db := s.oneDatabase(); db != "" {
		return fmt.Sprintf(`db.grantRolesToUser("<user>", [{role: "read", db: %q}])`, db)
	}
	return `db.grantRolesToUser("<user>", [{role: "readAnyDatabase", db: "admin"}])`
}

// orContext prefers the context's own error to what the driver makes of it.
func orContext(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
