//! Forge Realtime: publishing over HTTP, subscribers by WebSocket, and the modules for both.

mod clients;
