package mongodb

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/mongodriver"
)

const standaloneHint = `start mongod with --replSet rs0, then once in mongosh: rs.initiate(); a set of one member will do`

// closeTime bounds what a client says to the server when it goes.
const closeTime = 3 * time.Second

// majority is how everything outside a transaction is read and written, whatever the URL says: what is
// read was not only written to a primary that has been replaced meanwhile (invariant 6).
func majority() *options.DatabaseOptionsBuilder {
	return options.Database().SetReadConcern(readconcern.Majority()).SetWriteConcern(writeconcern.Majority()).SetReadPreference(readpref.Primary())
}

// connect makes a client; it does no I/O but what its monitors do.
func (s *sink) connect() (*mongo.Client, error) {
	c, err := mongo.Connect(mongodriver.Options(s.cfg.url, "forebay "+s.env.Name).SetRetryWrites(true))
	if err != nil {
		return nil, connectors.Fatal(errors.New("url: not a MongoDB URL"), "write it as mongodb://user:password@host:27017/?replicaSet=rs0")
	}
	return c, nil
}

func disconnect(c *mongo.Client) error {
	if c == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	return c.Disconnect(ctx)
}

// identify asks what the server is and refuses one that has no transactions.
func identify(ctx context.Context, c *mongo.Client) error {
	admin := c.Database("admin")
	var hello struct {
		Set string `bson:"setName"`
		Msg string `bson:"msg"`
	}
	if err := admin.RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello); err != nil {
		return classify(err, "reach the server")
	}
	if hello.Set == "" && hello.Msg != "isdbgrid" {
		return connectors.Fatal(errors.New("the server is a standalone one: only replica sets have transactions, which keep documents and offsets together"), standaloneHint)
	}
	var build struct {
		Version string `bson:"version"`
	}
	if err := admin.RunCommand(ctx, bson.D{{Key: "buildInfo", Value: 1}}).Decode(&build); err != nil {
		return classify(err, "ask the server's version")
	}
	if major, _ := strconv.Atoi(strings.SplitN(build.Version, ".", 2)[0]); major < 6 { // an odd version counts as 0
		return connectors.Fatal(fmt.Errorf("the server is MongoDB %s; the sink needs 6.0 or later", build.Version), "upgrade the server")
	}
	return nil
}

// Codes of the server's errors (error_codes.yml) that mean something here.
const (
	codeUserNotFound      = 11
	codeUnauthorized      = 13
	codeAuthentication    = 18
	codeIllegalOperation  = 20 // transactions on a standalone server
	codeNamespaceExists   = 48
	codeValidation        = 121
	codeTooLarge          = 10334
	codeDuplicateKey      = 11000
	codeTooLargeInserted  = 17280
	codeTooLargeUpdated   = 17419
	codeTooLargeUpdated2  = 17420
	codeImmutableField    = 66
	codeBadValue          = 2
	codeDollarPrefixed    = 52
	codeCannotBuildShard  = 61 // ShardKeyNotFound
	codeTransactionTooBig = 257
)

// classify sorts an error of the server: what only an operator can mend is fatal, everything else is
// tried again by the runtime.
func classify(err error, what string) error {
	if err == nil {
		return nil
	}
	full := fmt.Errorf("%s: %w", what, err)
	var se mongo.ServerError
	if !errors.As(err, &se) || connectors.IsFatal(err) {
		return full
	}
	has := func(codes ...int) bool {
		for _, c := range codes {
			if se.HasErrorCode(c) {
				return true
			}
		}
		return false
	}
	switch {
	case se.HasErrorLabel(transient):
		return full
	case has(codeUnauthorized):
		return connectors.Fatal(full, `db.grantRolesToUser("<user>", [{role: "readWrite", db: "<database>"}])`)
	case has(codeAuthentication, codeUserNotFound):
		return connectors.Fatal(full, "check user, password and authSource in url")
	case has(codeIllegalOperation):
		return connectors.Fatal(full, standaloneHint)
	case has(codeDuplicateKey):
		return connectors.Fatal(full, "the collection has a unique index that the source's rows do not keep at every moment, or holds documents of somebody else: drop the index in the target, or mend the documents; nothing was written of this commit")
	case has(codeValidation):
		return connectors.Fatal(full, "the collection's validator refuses a document: change it with collMod; nothing was written of this commit")
	case has(codeTooLarge, codeTooLargeInserted, codeTooLargeUpdated, codeTooLargeUpdated2, codeTransactionTooBig, codeImmutableField, codeBadValue, codeDollarPrefixed, codeCannotBuildShard):
		return connectors.Fatal(full, "the server cannot take a document; nothing was written of this commit")
	}
	return full
}

// Labels of errors (driver specification, "Transactions").
const (
	transient     = "TransientTransactionError"
	unknownCommit = "UnknownTransactionCommitResult"
)

// mends says that an error may be gone by itself: an election, a conflict, a lost connection.
func mends(err error) bool {
	if connectors.IsFatal(err) {
		return false
	}
	var l interface{ HasErrorLabel(string) bool }
	return errors.As(err, &l) && (l.HasErrorLabel(transient) || l.HasErrorLabel(unknownCommit)) || mongo.IsNetworkError(err) || mongo.IsTimeout(err)
}
