package registry

import (
	"fmt"
	"net/http"
)

// failure is an answer other than 200: Confluent's code and message (io.confluent.kafka.schemaregistry.rest.exceptions.Errors). A code has the status as its
// first three digits.
type failure struct {
	Code    int    `json:"error_code"`
	Message string `json:"message"`
}

func (f *failure) Error() string { return f.Message }

func (f *failure) status() int {
	if f.Code >= 10_000 {
		return f.Code / 100
	}
	return f.Code
}

func fail(code int, format string, args ...any) *failure {
	return &failure{Code: code, Message: fmt.Sprintf(format, args...)}
}

const (
	codeSubjectNotFound      = 40401
	codeVersionNotFound      = 40402
	codeSchemaNotFound       = 40403
	codeSubjectDeleted       = 40404
	codeSubjectNotDeleted    = 40405
	codeVersionDeleted       = 40406
	codeVersionNotDeleted    = 40407
	codeNoLevel              = 40408
	codeNoMode               = 40409
	codeIncompatible         = 40901
	codeInvalidSchema        = 42201
	codeInvalidVersion       = 42202
	codeInvalidLevel         = 42203
	codeInvalidMode          = 42204
	codeNotPermitted         = 42205
	codeReferenced           = 42206
	codeInvalidSubject       = 42208
	codeTooLarge             = 42209
	codeStore                = 50001
	codeTimeout              = 50002
	codeUnprocessable        = http.StatusUnprocessableEntity
	codeBadRequest           = http.StatusBadRequest
	codeUnsupportedMediaType = http.StatusUnsupportedMediaType
)

func subjectNotFound(subject string) error {
	return fail(codeSubjectNotFound, "Subject '%s' not found.", subject)
}

func versionNotFound(version int) error {
	return fail(codeVersionNotFound, "Version %d not found.", version)
}

func schemaNotFound() error { return fail(codeSchemaNotFound, "Schema not found") }

func idNotFound(id int) error { return fail(codeSchemaNotFound, "Schema %d not found", id) }

func invalidVersion(text string) error {
	return fail(codeInvalidVersion, "The specified version '%s' is not a valid version id. Allowed values are between [1, 2^31-1] and the string \"latest\"", text)
}

func invalidSchema(err error) error {
	return fail(codeInvalidSchema, "Invalid schema: %v", err)
}

func readOnly(subject string) error {
	return fail(codeNotPermitted, "Subject %s in context  is in read-only mode", subject)
}

func referenced(subject string, version int) error {
	return fail(codeReferenced, "One or more references exist to the schema {magic=1,keytype=SCHEMA,subject=%s,version=%d}.", subject, version)
}
