"""Layer 2, the moving parts: ingestion, the stages route, process and materialize, the embedded broker and the supervisor."""
