package schema

// Document is the semantic name of a row that stands for a document of a document store: a
// Struct of the document's key, as text, and its content, as JSON text. So sinks see
// columns, while the envelope carries the content alone, as Debezium's MongoDB connector has it.
const Document = "io.forebay.data.Document"

// The fields of a Document row.
const (
	DocumentID      = iota // "id": the key, as in the record's key
	DocumentContent        // "document": JSON text; Missing where the source had no image of it
	documentFields
)

// DocumentOf is the schema of a document's row. content describes the text.
func DocumentOf(content *Schema) *Schema {
	return &Schema{Kind: Struct, Name: Document, Version: 1, Optional: true, Fields: []Field{
		DocumentID:      {Name: "id", Schema: &Schema{Kind: String}},
		DocumentContent: {Name: "document", Schema: OptionalOf(content)},
	}}
}

// IsDocument says whether s is the schema of a document's row.
func (s *Schema) IsDocument() bool {
	return s != nil && s.Kind == Struct && s.Name == Document && len(s.Fields) == documentFields
}
