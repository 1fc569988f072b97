//! Tables as Parquet: nested values become lists and groups, by the levels of Dremel (Melnik and
//! others 2010).
//!
//! A column of the file is a leaf of the nested kinds. Each of its entries has a definition level, how
//! many of the optional and repeated nodes on the way to it are there, and a repetition level, the
//! innermost list in which it is not the first.

use super::{Kind, Table, TableRow};
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::column::writer::ColumnWriterImpl;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};
use serde_json::Value;
use std::io::{self, Write};
use std::sync::Arc;

/// Rows of a row group.
const GROUP: usize = 10_000;

/// Writes the table as one file.
pub(super) fn parquet(table: &Table, out: &mut (dyn Write + Send)) -> io::Result<()> {
    encode(table, out).map_err(|e| match e {
        // The system's error, such as that of a full disk, comes wrapped.
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(inner) => *inner,
            Err(inner) => io::Error::other(inner),
        },
        e => io::Error::other(e),
    })
}

fn encode(table: &Table, out: &mut (dyn Write + Send)) -> Result<(), ParquetError> {
    let nodes: Vec<(&str, Node)> =
        table.columns.iter().map(|(name, kind)| (name.as_str(), Node::of(kind))).collect();
    let fields = nodes.iter().map(|(name, node)| node.schema(name)).collect::<Result<_, _>>()?;
    let schema = Type::group_type_builder("rows").with_fields(fields).build()?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))?;
    for rows in table.rows.chunks(GROUP) {
        let mut group = writer.next_row_group()?;
        for (name, node) in &nodes {
            column(&mut group, rows, name, node)?;
        }
        group.close()?;
    }
    writer.close()?;
    Ok(())
}

/// Writes all leaves of one column of the table.
fn column<W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    rows: &[TableRow],
    name: &str,
    node: &Node,
) -> Result<(), ParquetError> {
    let mut leaves = Vec::new();
    node.add_leaves(&mut leaves);
    for row in rows {
        let value = row.get(name).unwrap_or(&Value::Null);
        node.shred(value, Levels::default(), &mut leaves)?;
    }
    for Leaf { values, definitions, repetitions } in &leaves {
        let Some(mut writer) = group.next_column()? else { break };
        let levels = (definitions.as_slice(), repetitions.as_slice());
        match values {
            Values::Bool(values) => put(writer.typed::<BoolType>(), values, levels)?,
            Values::Integer(values) => put(writer.typed::<Int64Type>(), values, levels)?,
            Values::Real(values) => put(writer.typed::<DoubleType>(), values, levels)?,
            Values::Text(values) => put(writer.typed::<ByteArrayType>(), values, levels)?,
        }
        writer.close()?;
    }
    Ok(())
}

fn put<T: DataType>(
    writer: &mut ColumnWriterImpl<'_, T>,
    values: &[T::T],
    (definitions, repetitions): (&[i16], &[i16]),
) -> Result<(), ParquetError> {
    writer.write_batch(values, Some(definitions), Some(repetitions)).map(drop)
}

/// A kind as Parquet has it: without those that have no leaf of their own.
enum Node {
    Bool,
    Integer,
    Real,
    /// Text, or with `true` JSON text of any value.
    Text(bool),
    List(Box<Node>),
    Object(Vec<(String, Node)>),
}

/// Where a value stands among the nodes around it.
#[derive(Clone, Copy, Default)]
struct Levels {
    /// How many optional and repeated nodes are there.
    definition: i16,
    /// The innermost list in which the value is not the first.
    repetition: i16,
    /// How many lists there are around it.
    lists: i16,
}

/// The entries of one leaf.
struct Leaf {
    values: Values,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
}

enum Values {
    Bool(Vec<bool>),
    Integer(Vec<i64>),
    Real(Vec<f64>),
    Text(Vec<ByteArray>),
}

impl Node {
    fn of(kind: &Kind) -> Node {
        match kind {
            Kind::Bool => Node::Bool,
            Kind::Number { integer: true, .. } => Node::Integer,
            Kind::Number { real: true, .. } => Node::Real,
            Kind::List(items) => Node::List(Box::new(Node::of(items))),
            Kind::Object(fields) if !fields.is_empty() => {
                let field = |(name, kind): &(String, Kind)| (name.clone(), Node::of(kind));
                Node::Object(fields.iter().map(field).collect())
            }
            Kind::Text | Kind::Empty => Node::Text(false),
            Kind::Number { .. } | Kind::Object(_) | Kind::Json => Node::Text(true),
        }
    }

    /// The node as an optional field of that name.
    fn schema(&self, name: &str) -> Result<TypePtr, ParquetError> {
        let leaf = |physical, logical| {
            Type::primitive_type_builder(name, physical)
                .with_repetition(Repetition::OPTIONAL)
                .with_logical_type(logical)
                .build()
        };
        let group = |fields, repetition, name: &str, logical| {
            Type::group_type_builder(name)
                .with_repetition(repetition)
                .with_logical_type(logical)
                .with_fields(fields)
                .build()
        };
        let node = match self {
            Node::Bool => leaf(Physical::BOOLEAN, None),
            Node::Integer => leaf(Physical::INT64, None),
            Node::Real => leaf(Physical::DOUBLE, None),
            Node::Text(_) => leaf(Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Node::List(items) => {
                let fields = vec![items.schema("element")?];
                let list = group(fields, Repetition::REPEATED, "list", None)?;
                let logical = Some(LogicalType::List);
                group(vec![Arc::new(list)], Repetition::OPTIONAL, name, logical)
            }
            Node::Object(fields) => {
                let fields = fields
                    .iter()
                    .map(|(name, node)| node.schema(name))
                    .collect::<Result<_, _>>()?;
                group(fields, Repetition::OPTIONAL, name, None)
            }
        };
        node.map(Arc::new)
    }

    /// Its leaves, in the order of the schema.
    fn add_leaves(&self, leaves: &mut Vec<Leaf>) {
        let values = match self {
            Node::List(items) => return items.add_leaves(leaves),
            Node::Object(fields) => {
                return fields.iter().for_each(|(_, node)| node.add_leaves(leaves));
            }
            Node::Bool => Values::Bool(Vec::new()),
            Node::Integer => Values::Integer(Vec::new()),
            Node::Real => Values::Real(Vec::new()),
            Node::Text(_) => Values::Text(Vec::new()),
        };
        leaves.push(Leaf { values, definitions: Vec::new(), repetitions: Vec::new() });
    }

    fn leaves(&self) -> usize {
        match self {
            Node::List(items) => items.leaves(),
            Node::Object(fields) => fields.iter().map(|(_, node)| node.leaves()).sum(),
            _ => 1,
        }
    }

    /// Adds a value to the leaves of this node, of which `leaves` begins with the first.
    ///
    /// # Errors
    /// For a value of another kind than the column's.
    fn shred(&self, value: &Value, at: Levels, leaves: &mut [Leaf]) -> Result<(), ParquetError> {
        let there = Levels { definition: at.definition + 1, ..at };
        match (self, value) {
            (_, Value::Null) => self.enter_levels(at, leaves),
            (Node::Object(fields), Value::Object(object)) => {
                let mut rest = leaves;
                for (name, node) in fields {
                    node.shred(object.get(name).unwrap_or(&Value::Null), there, rest)?;
                    rest = &mut rest[node.leaves()..];
                }
            }
            (Node::List(_), Value::Array(values)) if values.is_empty() => {
                self.enter_levels(there, leaves);
            }
            (Node::List(items), Value::Array(values)) => {
                let mut inside = Levels {
                    definition: there.definition + 1,
                    repetition: at.repetition,
                    lists: at.lists + 1,
                };
                for value in values {
                    items.shred(value, inside, leaves)?;
                    inside.repetition = inside.lists;
                }
            }
            _ => {
                if !leaves[0].values.enter(self, value) {
                    let detail = format!("the value {value} is not of the kind of its column");
                    return Err(ParquetError::General(detail));
                }
                self.enter_levels(there, leaves);
            }
        }
        Ok(())
    }

    /// Adds an entry at these levels to every leaf of this node: of a leaf that has its value already,
    /// or of leaves that have none.
    fn enter_levels(&self, at: Levels, leaves: &mut [Leaf]) {
        for leaf in leaves.iter_mut().take(self.leaves()) {
            leaf.definitions.push(at.definition);
            leaf.repetitions.push(at.repetition);
        }
    }
}

impl Values {
    /// Adds a value, if it is one of this kind.
    fn enter(&mut self, node: &Node, value: &Value) -> bool {
        match (self, node, value) {
            (Values::Bool(all), _, Value::Bool(value)) => all.push(*value),
            (Values::Integer(all), _, Value::Number(value)) => match value.as_i64() {
                Some(value) => all.push(value),
                None => return false,
            },
            (Values::Real(all), _, Value::Number(value)) => match value.as_f64() {
                Some(value) => all.push(value),
                None => return false,
            },
            (Values::Text(all), Node::Text(true), value) => {
                all.push(ByteArray::from(value.to_string().into_bytes()));
            }
            (Values::Text(all), _, Value::String(text)) => {
                all.push(ByteArray::from(text.clone().into_bytes()));
            }
            _ => return false,
        }
        true
    }
}
