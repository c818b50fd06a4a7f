//! shim
use std::sync::Arc;
/// e
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct M2Error;
impl M2Error {
    /// s
    pub fn status(&self) -> u16 {
        401
    }
}
/// r
#[derive(Debug)]
pub struct Reader {
    /// u
    pub user: Option<Arc<str>>,
    /// e
    pub expires_at: Option<u64>,
}
/// a
#[derive(Debug)]
pub struct M2Auth;
impl M2Auth {
    /// r
    pub fn reader(
        &mut self,
        _: Option<&str>,
        k: Option<&str>,
        _: &str,
        _: u64,
    ) -> Result<Reader, M2Error> {
        Ok(Reader { user: k.map(Into::into), expires_at: None })
    }
    /// w
    pub fn writer(
        &mut self,
        _: Option<&str>,
        _: Option<&str>,
        _: &str,
        _: u64,
    ) -> Result<(), M2Error> {
        Ok(())
    }
}
