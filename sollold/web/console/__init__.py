"""The console page: panels made of the documents of `/api/v1`, kept live over a WebSocket."""
