//! stub
#![allow(missing_docs)]
use crate::StoreError;
use std::path::{Path, PathBuf};
pub struct Template;
impl Template {
    pub fn dir(&self) -> &Path { todo!() }
    pub fn ram(&self) -> PathBuf { todo!() }
    pub fn state(&self) -> PathBuf { todo!() }
    pub fn verify(&self) -> Result<(), StoreError> { todo!() }
    pub fn put_aside(&self) {}
}
pub struct Building;
impl Building {
    pub fn dir(&self) -> &Path { todo!() }
    pub fn why(&self) -> Option<String> { None }
    pub fn publish(self) -> Result<Template, StoreError> { todo!() }
}
pub enum Found { There(Template), ToMake(Building) }
impl crate::Store {
    pub fn template(&self, _name: &str, _parts: &[(String, String)]) -> Result<Found, StoreError> { todo!() }
}
